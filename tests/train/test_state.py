from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from safetensors.torch import load_file, save_file

from cutaway.base.errors import BadInput
from cutaway.train.state import join, split

LEAVES = some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | some.text()
KEYS = some.text(max_size=5) | some.integers(0, 9)
TREES = some.recursive(
    LEAVES, lambda inner: some.lists(inner) | some.dictionaries(KEYS, inner) | some.tuples(inner, inner), max_leaves=12
)


@given(TREES)
def test_any_plain_tree_comes_back_through_json(tree):
    tensors, plain = split(tree)
    assert tensors == {} and join({}, json.loads(json.dumps(plain))) == tree


def test_an_optimiser_of_torch_comes_back_through_files(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, betas=(0.8, 0.9))
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    tensors, plain = split(optimiser.state_dict())
    save_file(tensors, tmp_path / "a.safetensors")
    back = join(load_file(tmp_path / "a.safetensors"), json.loads(json.dumps(plain)))
    assert back["param_groups"] == optimiser.state_dict()["param_groups"]
    for index, kept in optimiser.state_dict()["state"].items():
        for name, tensor in kept.items():
            assert torch.equal(back["state"][index][name], tensor) and back["state"][index][name].dtype == tensor.dtype


def test_views_and_shared_tensors_can_be_written(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    tensors, _ = split({"row": whole[1], "column": whole[:, 1], "same": whole, "again": whole})
    save_file(tensors, tmp_path / "a.safetensors")
    back = load_file(tmp_path / "a.safetensors")
    assert torch.equal(back["column"], whole[:, 1]) and torch.equal(back["again"], whole)
    whole.zero_()
    assert tensors["row"].tolist() == [4, 5, 6, 7], "what is being written does not change with the model"


@pytest.mark.parametrize("value", [{"a": {"b": object()}}, {"a": {"b": b"bytes"}}, {"a": {"b": {1.5: 2}}}])
def test_what_no_state_may_hold_is_named(value):
    with pytest.raises(BadInput, match=r"a\.b"):
        split(value)


def test_a_missing_tensor_is_named():
    _, plain = split({"a": [torch.ones(1)]})
    with pytest.raises(BadInput, match=r"a\.0"):
        join({}, plain)
