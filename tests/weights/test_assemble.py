from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.nn.context import Context
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SigmoidTopK
from cutaway.nn.feedforward import Gated
from cutaway.weights.assemble import Shape, as_dtype, assemble, hollow, parameters_of


class Remembered:
    """A source that remembers what it was asked, and in which order."""

    def __init__(self, numbers: Mapping[str, Tensor]):
        self.numbers, self.asked = numbers, []

    def check(self, expected: Mapping[str, Shape]) -> None:
        assert expected == {name: tuple(tensor.shape) for name, tensor in self.numbers.items()}
        self.asked.append("check")

    def dtype(self) -> torch.dtype:
        return torch.bfloat16

    def read(self, name: str) -> Tensor:
        self.asked.append(name)
        return self.numbers[name]


def test_names_and_shapes_without_the_module(tiny):
    """Blocks of two kinds, so that kinds and layers differ."""
    wide = replace(tiny.blocks[0], feed=replace(tiny.blocks[0].feed, hidden=56, bias=True))
    spec = replace(tiny, blocks=(tiny.blocks[0], wide, tiny.blocks[0], wide), tied=False)
    assert parameters_of(spec) == {name: tuple(one.shape) for name, one in spec.build().named_parameters()}


def test_assembled_is_the_same_model(tiny):
    model = tiny.build().eval()
    source = Remembered(dict(model.state_dict()))
    made = assemble(tiny, source, None, "cpu")
    assert source.asked[0] == "check" and sorted(source.asked[1:]) == sorted(model.state_dict()), "then each once"
    assert not made.training and made.embedding.weight.dtype == torch.float32
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in made.parameters())
    ids = torch.arange(9)
    assert torch.equal(made(ids, Context.of((9,)))[0], model(ids, Context.of((9,)))[0])
    made.embedding.weight.data.zero_()
    assert source.numbers["embedding.weight"].abs().sum() > 0, "a copy, not the source's own memory"


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_takes_no_gradient_takes_none_when_it_is_read(tiny, device):
    feed = Experts(count=2, expert=Gated(hidden=4), router=SigmoidTopK(top_k=1))
    spec = replace(tiny, blocks=(replace(tiny.blocks[0], feed=feed),))
    made = assemble(spec, Remembered(dict(spec.build().state_dict())), None, device)
    still = [name for name, parameter in made.named_parameters() if not parameter.requires_grad]
    assert still == ["blocks.0.feed.router.bias"]


def test_on_the_meta_device_nothing_is_read(tiny):
    source = Remembered(dict(tiny.build().state_dict()))
    made = assemble(tiny, source, None, "meta")
    assert source.asked == ["check"]
    assert {parameter.dtype for parameter in made.parameters()} == {torch.bfloat16}, "the source's own, off the CPU"


def test_hollow_costs_nothing(tiny):
    """A trillion numbers, and no memory for them."""
    huge = hollow(replace(tiny, vocab=2**24, dim=2**16))
    assert huge.embedding.weight.is_meta and huge.embedding.weight.numel() == 2**40


@pytest.mark.parametrize("name", ["int8", "float", "", 7, torch.int64])
def test_no_precision_to_compute_in(name):
    with pytest.raises(BadInput, match="no precision to compute in"):
        as_dtype(name)


def test_precisions_by_name():
    assert [as_dtype(one) for one in (None, "float16", "torch.bfloat16", torch.float64)] == [
        None,
        torch.float16,
        torch.bfloat16,
        torch.float64,
    ]
