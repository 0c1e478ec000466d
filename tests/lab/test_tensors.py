from __future__ import annotations

import math

import torch

from cutaway.lab import tensors
from cutaway.lab.tensors import Faults, faults, held, statistics
from cutaway.nn.batch_norm import BatchNorm
from cutaway.nn.linear import Linear
from cutaway.nn.quantised import QuantisedLinear
from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.packed import Packed


def packed(rows: int = 5, columns: int = 64) -> QuantisedLinear:
    blocks = quantise(torch.randn(rows, columns), FORMATS["q8_0"])
    return QuantisedLinear(Packed(blocks=blocks, format=FORMATS["q8_0"]), torch.zeros(rows))


def test_plain_tensors():
    weight, bias = held(Linear(8, 4, bias=True).to(torch.bfloat16))
    assert (weight.name, weight.shape, weight.format, weight.bytes, weight.count) == ("weight", (4, 8), "bf16", 64, 32)
    assert (bias.name, bias.learned) == ("bias", True)
    measured = {tensor.name: tensor.learned for tensor in held(BatchNorm().build(4))}
    assert measured == {"weight": True, "bias": True, "running_mean": False, "running_variance": False}


def test_a_packed_matrix_has_the_shape_of_its_numbers_and_the_bytes_of_its_blocks():
    module = packed()
    weight, bias = held(module)
    assert (weight.shape, weight.format, weight.bytes, weight.learned) == ((5, 64), "q8_0", 5 * 2 * 34, True)
    assert bias.format == "f32"
    numbers = torch.cat([slab.reshape(-1) for slab in weight.slabs()])
    assert torch.equal(numbers, dequantise(module.packed.blocks, module.packed.format).reshape(-1))


def test_slabs_are_small_and_lose_nothing(monkeypatch):
    monkeypatch.setattr(tensors, "SLAB", 128)
    for module, shape in ((packed(), (5, 64)), (Linear(30, 21), (21, 30))):
        slabs = list(held(module)[0].slabs())
        assert all(slab.numel() <= 128 for slab in slabs) and len(slabs) > 1
        assert sum(slab.numel() for slab in slabs) == math.prod(shape)


def test_statistics_are_those_of_the_whole_however_it_is_cut():
    x = torch.randn(1000, dtype=torch.float64) * 3 + 1e6  # far from zero: a sum of squares would lose the deviation
    for size in (1000, 7, 1):
        found = statistics(x.split(size))
        # Merged in float64: what is lost is at most some roundings of numbers about 1e6.
        assert math.isclose(found.mean, float(x.mean()), rel_tol=1e-12)
        assert math.isclose(found.deviation, float(x.std(correction=0)), rel_tol=1e-8)
        assert (found.count, found.least, found.most, found.nan) == (1000, float(x.min()), float(x.max()), 0)


def test_nan_and_infinite_are_counted_aside():
    found = statistics([torch.tensor([1.0, math.nan, 3.0]), torch.tensor([math.inf, -math.inf]), torch.tensor([])])
    assert (found.count, found.nan, found.infinite) == (5, 1, 2)
    assert (found.mean, found.deviation, found.least, found.most) == (2.0, 1.0, 1.0, 3.0)
    nothing = statistics([torch.tensor([math.nan])])
    assert math.isnan(nothing.mean) and math.isnan(nothing.deviation) and nothing.nan == 1


def test_a_packed_matrix_is_scanned_once():
    assert [name for name, _ in tensors.tensors(torch.nn.ModuleList([packed()]))] == ["0.weight", "0.bias"]


def test_faults_are_counted_and_sound_tensors_have_none():
    assert faults([torch.tensor([1.0, math.nan, math.nan]), torch.tensor([math.inf])]) == Faults(nan=2, infinite=1)
    assert faults([torch.tensor([math.inf, -math.inf])]) == Faults(infinite=2)  # their sum is NaN: no NaN is made up
    assert not faults([torch.full((8,), 3e38), torch.tensor([])]), "large numbers are not infinite"
    assert faults([torch.full((1,), 65504.0, dtype=torch.float16).expand(9)]) == Faults()


def test_every_tensor_has_its_path(language):
    with torch.no_grad():
        language.module.blocks[2].feed.up.weight[3, 4] = math.nan
    found = {name: faults(tensor.slabs()) for name, tensor in tensors.tensors(language.module)}
    assert found.keys() == dict(language.module.named_parameters()).keys()
    assert [name for name, bad in found.items() if bad] == ["blocks.2.feed.up.weight"]
