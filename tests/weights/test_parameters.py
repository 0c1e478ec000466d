from __future__ import annotations

import pytest
import torch
from torch import nn

from cutaway.base.errors import BadInput
from cutaway.nn.quantised import QuantisedLinear
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.packed import Packed
from cutaway.weights.parameters import refuse_unsound, unsound


def model() -> nn.Module:
    torch.manual_seed(0)
    blocks = quantise(torch.randn(4, 64), FORMATS["q8_0"])
    packed = QuantisedLinear(Packed(blocks=blocks, format=FORMATS["q8_0"]), bias=torch.zeros(4))
    return nn.ModuleDict({"plain": nn.Linear(3, 4), "packed": packed, "small": nn.Linear(4, 2, dtype=torch.bfloat16)})


def test_sound_weights_are_not_named():
    assert list(unsound(model())) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["plain.weight", "plain.bias", "packed.bias", "small.weight"])
def test_one_bad_number_names_its_parameter(name, value):
    module = model()
    with torch.no_grad():
        module.get_parameter(name).view(-1)[-1] = value
    assert list(unsound(module)) == [name]


def test_one_bad_scale_names_its_matrix():
    module = model()
    module.get_buffer("packed.packed.blocks")[2, 34:36] = torch.tensor([0, 0x7E], dtype=torch.uint8)  # fp16 NaN
    assert list(unsound(module)) == ["packed.weight"]


def test_many_bad_ones_are_counted_behind_the_first():
    module = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(5))
    refuse_unsound(module, "a/model")
    with torch.no_grad():
        for part in module:
            part.weight[0, 0] = float("nan")
    with pytest.raises(BadInput, match=r"^a/model: weights: NaN .* in 0\.weight, 1\.weight, 2\.weight .and 2 others"):
        refuse_unsound(module, "a/model")
