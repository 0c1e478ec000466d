"""Groups of weights: missing and sparse gradients, frozen and shared weights, states that do not fit."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load, save

from cutaway.base.errors import BadInput
from cutaway.train.optimisers.adamw import AdamW


def test_a_weight_without_a_gradient_stays_and_its_step_is_not_counted(toy, walk):
    module = toy(torch.float64)
    optimiser = AdamW().build(module)
    walk(module, optimiser, 6)  # steps 2 and 5 miss every other weight
    counts = {name: optimiser.state_dict()[f"{name}.count"] for name, _ in module.named_parameters()}
    assert [counts[name] for name, _ in module.named_parameters()] == [6, 4] * 5
    before = module.gain.detach().clone()
    for weight in module.parameters():
        weight.grad = None
    optimiser.step()
    assert torch.equal(module.gain, before)


def test_zero_grad_takes_gradients_away(toy, walk):
    module = toy(torch.float32)
    optimiser = AdamW().build(module)
    walk(module, optimiser, 1, missing=False)
    optimiser.zero_grad()
    assert all(weight.grad is None for weight in module.parameters())


def test_frozen_weights_are_not_moved_and_a_shared_one_once(toy, walk):
    module = toy(torch.float32)
    module.blocks[0].weight.requires_grad_(False)
    module.blocks[2].weight = module.blocks[1].weight
    optimiser = AdamW().build(module)
    names = {name for group in optimiser.groups for name in group.names}
    assert "blocks.0.weight" not in names
    assert "blocks.1.weight" in names
    assert "blocks.2.weight" not in names


def test_nothing_to_train_is_refused(toy):
    module = toy(torch.float32).requires_grad_(False)
    with pytest.raises(BadInput, match="no weights to train"):
        AdamW().build(module)


def test_sparse_gradients_are_refused():
    module = torch.nn.Embedding(5, 3, sparse=True)
    optimiser = AdamW().build(module)
    module(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(BadInput, match="weight: a sparse gradient"):
        optimiser.step()


def test_the_state_is_tensors_and_numbers_that_files_can_hold(toy, walk):
    module = toy(torch.float32)
    optimiser = AdamW().build(module)
    optimiser.scale(0.5)
    walk(module, optimiser, 3)
    state = optimiser.state_dict()
    tensors = {name: held for name, held in state.items() if isinstance(held, torch.Tensor)}
    numbers = {name: held for name, held in state.items() if name not in tensors}
    again = {**load(save(tensors)), **json.loads(json.dumps(numbers))}
    other = AdamW().build(toy(torch.float32))
    other.load_state_dict(again)
    read = other.state_dict()
    assert read.keys() == state.keys()
    assert all(torch.equal(torch.as_tensor(read[name]), torch.as_tensor(state[name])) for name in state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("gain.first"), "gain.first: is missing"),
        (lambda state: state.update({"strange.first": 1}), "strange.first: belongs to no weight here"),
        (lambda state: state.update({"gain.second": torch.zeros(3)}), "gain.second: has shape"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_nothing_changes(change, message, toy, walk):
    module = toy(torch.float32)
    optimiser = AdamW().build(module)
    walk(module, optimiser, 2, missing=False)
    state = {
        name: torch.zeros_like(held) if isinstance(held, torch.Tensor) else 0
        for name, held in optimiser.state_dict().items()
    }
    change(state)
    before = optimiser.state_dict()["number.first"].clone()
    with pytest.raises(BadInput, match=message):
        optimiser.load_state_dict(state)
    assert torch.equal(optimiser.state_dict()["number.first"], before)
    assert optimiser.state_dict()["gain.count"] == 2
