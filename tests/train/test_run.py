from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass, field, replace

import pytest
import torch

from cutaway.base.errors import BadInput, CutawayError
from cutaway.base.values import to_plain
from cutaway.train import checkpoints
from cutaway.train.run import Run


@dataclass(frozen=True, kw_only=True)
class Inner:
    rates: tuple[float, ...] = (0.1, 0.2)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    seed: int = 3
    about: str = "雪"
    inner: Inner = field(default_factory=Inner)


TABLE = {"Recipe": Recipe, "Inner": Inner}


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", "small", Recipe(), hardware={"cores": 2})


def test_run_json_holds_the_whole_recipe(run):
    card = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    assert card["format"] == 1 and card["name"] == "small" and card["seed"] == 3 and card["hardware"] == {"cores": 2}
    assert {"cutaway", "python", "torch"} <= card["versions"].keys()
    assert Run.open(run.folder).recipe(TABLE) == Recipe()


def test_a_folder_holds_one_run(run, tmp_path):
    with pytest.raises(BadInput, match=r"go on with --resume"):
        Run.create(run.folder, "small", Recipe())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    with pytest.raises(BadInput, match="not empty"):
        Run.create(tmp_path / "other", "small", Recipe())
    with pytest.raises(BadInput, match="holds no run"):
        Run.open(tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": 99}, "later version"),
        ({"format": None}, "later version"),
        ({"recipe": 1}, "recipe"),
        ({"recipe": {"type": "Recipe", "sead": 1}}, 'did you mean "seed"'),
    ],
)
def test_a_run_json_that_does_not_fit_is_named(run, change, told):
    path = run.folder / "run.json"
    path.write_text(json.dumps(run.card | change), encoding="utf-8")
    with pytest.raises(BadInput, match=told):
        Run.open(run.folder).recipe(TABLE)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match=r"run\.json: cannot be read"):
        Run.open(run.folder)


def test_a_run_goes_on_from_its_last_checkpoint(run):
    assert run.resume(print) is None
    for step in range(1, 8):
        run.record({"step": step, "loss": 1.0})
        if step == 4:
            run.save(step, {"module": {"weight": torch.ones(2)}})
    with (run.folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 8')
    step, state = Run.open(run.folder).resume(print)
    assert step == 4 and state.keys() == {"module"}
    assert [line["step"] for line in run.metrics.read()] == [1, 2, 3, 4]


def test_a_changed_recipe_is_named_by_its_field(run):
    run.save(1, {"module": {}})
    card = run.card | {"recipe": Run.open(run.folder).card["recipe"]}
    other = replace(Recipe(), inner=Inner(rates=(0.1, 0.3)))
    (run.folder / "run.json").write_text(json.dumps(card | {"recipe": to_plain(other)}), encoding="utf-8")
    with pytest.raises(BadInput, match=r"recipe\.inner\.rates\.1"):
        Run.open(run.folder).resume(print)


def test_two_processes_cannot_train_one_run(run):
    with run.held(), pytest.raises(BadInput, match="another process"), Run.open(run.folder).held():
        pass
    with Run.open(run.folder).held():
        pass


def test_a_full_disk_says_what_is_safe(run, monkeypatch):
    run.save(5, {"module": {"weight": torch.ones(2)}})

    def full(*given, **named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(CutawayError, match=r"No space left on device; the checkpoint of step 5 is whole"):
        run.save(6, {"module": {"weight": torch.ones(2)}})
    assert run.resume(print)[0] == 5


def test_a_sample_is_a_text_file(run):
    assert run.sample("before", "雪\n").read_text(encoding="utf-8") == "雪\n"


def test_a_place_that_is_a_file_is_one_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="not empty"):
        Run.create(tmp_path / "file", "small", Recipe())
    with pytest.raises(CutawayError, match="cannot be written"):
        Run.create(tmp_path / "file" / "run", "small", Recipe())
