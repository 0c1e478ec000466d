from __future__ import annotations

import errno
import json
import os
import shutil

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.train import checkpoints as module
from cutaway.train.checkpoints import Checkpoints


def state(step: int) -> dict:
    return {
        "module": {"weight": torch.full((3, 2), float(step))},
        "optimiser": {"moments": [torch.ones(2, dtype=torch.bfloat16)], "count": step},
        "batches": {"cursor": step, "text": "雪"},
    }


@pytest.fixture
def held(tmp_path):
    return Checkpoints(tmp_path / "checkpoints", keep=2)


def silent(text: str) -> None:
    raise AssertionError(text)


def test_a_state_comes_back_bit_for_bit(held):
    assert held.latest(silent) is None and held.steps() == [] and held.best() is None
    held.save(7, state(7))
    step, back = held.latest(silent)
    assert step == 7 and torch.equal(back["module"]["weight"], torch.full((3, 2), 7.0))
    assert back["optimiser"]["moments"][0].dtype == torch.bfloat16 and back["batches"] == {"cursor": 7, "text": "雪"}
    names = sorted(path.name for path in held.place(7).iterdir())
    assert names == ["manifest.json", "module.safetensors", "optimiser.safetensors", "state.json"]


def test_the_last_ones_and_the_best_are_kept(held):
    for step, score in ((1, 3.0), (2, 1.0), (3, 2.0), (4, None), (5, 2.5)):
        held.save(step, state(step), score)
    assert held.steps() == [2, 4, 5] and held.best() == 2
    assert sorted(path.name for path in held.folder.iterdir()) == ["step-00000002", "step-00000004", "step-00000005"]


@pytest.mark.parametrize("name", ["module.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_one_gives_way_to_the_one_before(held, name, harm):
    held.save(1, state(1))
    held.save(2, state(2))
    path = held.place(2) / name
    data = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[0] ^= 0x81  # a flipped byte that leaves the length as it is; in the manifest it ends the JSON
        path.write_bytes(data)
    said = []
    step, back = held.latest(said.append)
    assert step == 1 and back["batches"]["cursor"] == 1
    assert len(said) == 1 and "step 2 is passed over" in said[0] and name in said[0]
    held.save(2, state(2))
    assert held.latest(silent)[0] == 2, "made again, it takes the damaged one's place"


def test_all_damaged_is_an_error(held):
    held.save(1, state(1))
    (held.place(1) / "state.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BadInput, match="no checkpoint in it is whole"):
        held.latest(lambda text: None)


def test_one_of_a_later_format_is_told(held):
    held.save(1, state(1))
    path = held.place(1) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"format": 99}), encoding="utf-8")
    with pytest.raises(BadInput, match="later version"):
        held.load(1)


@pytest.mark.parametrize("at", ["save_file", "_seal"])
def test_a_full_disk_leaves_the_earlier_ones_whole(held, at, monkeypatch):
    held.save(1, state(1))

    def full(*given, **named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, at, full)
    with pytest.raises(OSError, match="No space left"):
        held.save(2, state(2))
    assert held.steps() == [1] and held.latest(silent)[0] == 1
    assert [path.name for path in held.folder.iterdir()] == ["step-00000001"]


def test_what_a_killed_process_left_is_no_checkpoint_and_goes(held):
    held.save(1, state(1))
    for name in (".step-00000002-ab12cd34.partial", ".step-00000001-ab12cd34.old"):
        shutil.copytree(held.place(1), held.folder / name)
    assert held.steps() == [1]
    held.clear()
    assert [path.name for path in held.folder.iterdir()] == ["step-00000001"]


def test_at_least_one_is_kept(tmp_path):
    with pytest.raises(BadInput, match="keep"):
        Checkpoints(tmp_path, keep=0)
