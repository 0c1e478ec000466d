"""Each weight stays within half a step, whatever its size; bytes hold what the readable levels say, in all forms."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.blocks import absmax
from cutaway.ops.blocks.absmax import pack, quantise_absmax, round_absmax
from cutaway.ops.blocks.dequantise import dequantise, dequantise_readable
from cutaway.ops.blocks.finite import finite
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.blocks.scheme import Absmax

SCHEMES = [
    Absmax(bits=bits, share=share, symmetric=symmetric)
    for bits, share, symmetric in product((8, 4), ("tensor", "row", 32, 8), (True, False))
]
EVERY = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)


def weights(rows: int = 24, columns: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator) * torch.logspace(-3, 1, rows)[:, None] + 0.01


def oracle(x_RC: Tensor, scheme: Absmax) -> Tensor:
    """The largest error that is allowed of each weight, in float64: half a step of the group's own range, the step
    being at most 1/1024 wider than it must be, as fp16 has 11 bits, or by the smallest number that it has."""
    x = x_RC.double()
    if scheme.share == "tensor":
        spans = x.reshape(1, -1)
    else:
        spans = x.reshape(-1, x.shape[1] if scheme.share == "row" else scheme.share)
    if scheme.symmetric:
        step = spans.abs().amax(1) / (2 ** (scheme.bits - 1) - 1)
    else:
        step = (spans.amax(1).clamp(min=0) - spans.amin(1).clamp(max=0)) / (2**scheme.bits - 1)
    step = torch.where(step > 0, step + (step * 2.0**-10).clamp(min=2.0**-24), 0.0)
    return (step / 2)[:, None].expand_as(spans).reshape(x.shape)


@EVERY
def test_each_weight_stays_within_half_a_step(scheme):
    x = weights()
    found = round_absmax(x, scheme).numbers().double()
    # 1e-6 of the weights: one rounding of x / s and one of the product, in fp32.
    bound = oracle(x, scheme) + 1e-6 * x.abs().amax()
    assert ((found - x.double()).abs() <= bound).all()
    assert (found - x.double()).abs().amax() > oracle(x, scheme).amax() / 2, "a bound that nothing comes near"


@given(
    st.lists(st.floats(-6e4, 6e4, width=32), min_size=8, max_size=8),
    st.sampled_from(SCHEMES),
    st.sampled_from([1.0, 1e-3, 1e-6, 1e-9]),
)
def test_so_does_any_weight(numbers, scheme, size):
    x = torch.tensor([numbers], dtype=torch.float32) * size
    scheme = replace(scheme, share=8) if isinstance(scheme.share, int) else scheme
    found = round_absmax(x, scheme).numbers().double()
    assert ((found - x.double()).abs() <= oracle(x, scheme) + 1e-6 * x.double().abs().amax()).all()


@EVERY
@pytest.mark.parametrize("shape", [(24, 64), (1, 32), (3, 96), (0, 64)])
def test_blocks_hold_the_levels_in_all_forms(scheme, shape):
    x = weights(*shape)
    if not len(x):
        blocks, format = quantise_absmax(x, scheme)
        assert dequantise(blocks, format).shape == shape
        return
    expected = round_absmax(x, scheme).numbers()
    blocks, format = quantise_absmax(x, scheme)
    assert blocks.dtype == torch.uint8 and blocks.shape == (shape[0], format.row_bytes(shape[1]))
    assert torch.equal(dequantise(blocks, format), expected)
    assert torch.equal(dequantise_readable(blocks, format), expected)
    assert finite(blocks, format)


@EVERY
def test_rounding_in_pieces_is_rounding_at_once(scheme, monkeypatch):
    x = weights()
    whole, _ = quantise_absmax(x, scheme)
    monkeypatch.setattr(absmax, "CHUNK", 5 * 64)
    pieces, _ = quantise_absmax(x, scheme)
    assert torch.equal(whole, pieces)


def test_by_hand():
    x = torch.tensor([[7.0, -3.4, 0.4, 0.0]])
    levels = round_absmax(x, Absmax(bits=4))
    assert float(levels.scale_RG1) == 1.0
    assert levels.q_RGW.flatten().tolist() == [7, -3, 0, 0]
    ranged = round_absmax(torch.tensor([[-5.0, 10.0, 0.0, 2.4]]), Absmax(bits=4, symmetric=False))
    assert float(ranged.scale_RG1) == 1.0 and int(ranged.zero_RG1) == 5
    assert ranged.q_RGW.flatten().tolist() == [0, 15, 5, 7]
    assert ranged.numbers().tolist() == [[-5.0, 10.0, 0.0, 2.0]]


def test_zeros_stay_zeros_and_asymmetric_hits_zero():
    for scheme in SCHEMES:
        assert not round_absmax(torch.zeros(2, 32), scheme).numbers().any()
        x = weights(2, 32).abs() + 1.0
        x[:, 3] = 0.0
        assert not round_absmax(x, scheme).numbers()[:, 3].any(), "what is pruned stays pruned"


def test_one_scale_for_all_rows_is_the_widest():
    x = weights()
    whole = round_absmax(x, Absmax(share="tensor"))
    assert len(whole.scale_RG1.unique()) == 1
    rows = round_absmax(x, Absmax(share="row"))
    assert float(rows.scale_RG1.max()) == float(whole.scale_RG1[0])
    error = [float((levels.numbers() - x).pow(2).mean(1)[:12].mean()) for levels in (whole, rows)]
    assert error[0] > 100 * error[1], "small rows pay for large ones"


def test_in_groups_of_32_the_bytes_are_laid_out_as_q4_0s_and_q8_0s():
    x = weights()
    for bits, name in ((4, "q4_0"), (8, "q8_0")):
        blocks, _ = quantise_absmax(x, Absmax(bits=bits, share=32))
        assert torch.equal(dequantise(blocks, FORMATS[name]), round_absmax(x, Absmax(bits=bits, share=32)).numbers())
    # ggml takes the extreme to level -8: one level more on one side, and a step that is an eighth of it.
    errors = [
        (dequantise(quantise(x, FORMATS["q4_0"]), FORMATS["q4_0"]) - x).pow(2).mean(),
        (round_absmax(x, Absmax(bits=4, share=32)).numbers() - x).pow(2).mean(),
    ]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e10])
@EVERY
def test_what_no_scale_can_hold_is_refused(scheme, bad):
    x = weights()
    x[3, 5] = bad
    with pytest.raises(BadInput, match="not finite, or too large"):
        quantise_absmax(x, scheme)


def test_a_broken_scale_is_seen_in_the_blocks():
    for scheme in SCHEMES:
        levels, format = round_absmax(weights(), scheme), scheme.format(64)
        levels.scale_RG1.view(-1)[1] = float("inf")
        assert not finite(pack(levels, format), format)
