from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cutaway.base.errors import BadInput, NotFound
from cutaway.weights.checkpoint import INDEX, Checkpoint

SHARDS = {
    "one.safetensors": {"a": torch.arange(6.0).view(2, 3)},
    "two.safetensors": {"b": torch.ones(4), "c": torch.zeros(1)},
}
WEIGHT_MAP = {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for file, held in SHARDS.items():
        save_file(held, tmp_path / file)
    write_index(tmp_path, {"weight_map": WEIGHT_MAP})
    return tmp_path


def write_index(folder: Path, index: Any) -> None:
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def test_shards_are_one_checkpoint(folder):
    with Checkpoint(folder) as checkpoint:
        assert {name: entry.shape for name, entry in checkpoint.entries.items()} == {"a": (2, 3), "b": (4,), "c": (1,)}
        assert torch.equal(checkpoint.tensor("a"), SHARDS["one.safetensors"]["a"])
        assert torch.equal(checkpoint.tensor("c"), torch.zeros(1))
        assert checkpoint.path_of("b") == folder / "two.safetensors"


def test_a_single_file_goes_before_an_index(folder):
    save_file({"d": torch.ones(1)}, folder / "model.safetensors")
    with Checkpoint(folder) as checkpoint:
        assert list(checkpoint.entries) == ["d"]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([], "expected a JSON object"),
        ({}, "weight_map: expected an object"),
        ({"weight_map": {}}, "weight_map: expected an object"),
        ({"weight_map": ["a"]}, "weight_map: expected an object"),
        (
            {"weight_map": WEIGHT_MAP | {"b": "gone.safetensors"}},
            r"weight_map\.b: the shard gone\.safetensors is missing",
        ),
        ({"weight_map": WEIGHT_MAP | {"b": "../two.safetensors"}}, r"weight_map\.b: '\.\./two\.safetensors' leads out"),
        ({"weight_map": WEIGHT_MAP | {"b": "/etc/two.safetensors"}}, r"weight_map\.b: .* leads out"),
        ({"weight_map": WEIGHT_MAP | {"b": "..\\two.safetensors"}}, r"weight_map\.b: .* leads out"),
        ({"weight_map": WEIGHT_MAP | {"b": "C:two.safetensors"}}, r"weight_map\.b: .* leads out"),
        ({"weight_map": WEIGHT_MAP | {"b": "two.bin"}}, r"weight_map\.b: 'two\.bin' is no \.safetensors file"),
        ({"weight_map": WEIGHT_MAP | {"b": 2}}, r"weight_map\.b: 2 is no \.safetensors file"),
        ({"weight_map": WEIGHT_MAP | {"d": "two.safetensors"}}, r"weight_map\.d: two\.safetensors has no such tensor"),
    ],
)
def test_an_index_that_lies(index, message, folder):
    write_index(folder, index)
    with pytest.raises(BadInput, match=rf"model\.safetensors\.index\.json: {message}"):
        Checkpoint(folder)


def test_a_broken_shard_is_named(folder):
    path = folder / "two.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadInput, match=r"two\.safetensors: "):
        Checkpoint(folder)


def test_a_file_that_changes_after_its_header_was_read(folder):
    with Checkpoint(folder) as checkpoint:
        (folder / "one.safetensors").write_bytes(b"something else")
        with pytest.raises(BadInput, match=r"one\.safetensors: a: cannot be read"):
            checkpoint.tensor("a")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt", "a.pkl", "consolidated.00.pth"])
def test_pickles_are_refused_and_never_opened(name, tmp_path):
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(BadInput, match=rf"{name}: pickled weights can run code"):
        Checkpoint(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(NotFound, match="no such folder"):
        Checkpoint(tmp_path / "nowhere")
    with pytest.raises(NotFound, match=r"no model\.safetensors and no model\.safetensors\.index\.json"):
        Checkpoint(tmp_path)
