"""Quantised maps and tables stand where plain ones would: same calls, same numbers, blocks that stay blocks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cutaway.nn.context import Context
from cutaway.nn.quantised import Fan, QuantisedEmbedding, QuantisedLinear
from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.forms import READABLE, named
from cutaway.ops.packed import Packed

EXACT = named(multiply="exact")
# fp32 sums in another order, of 64 terms of size 1.
CLOSE = {"rtol": 1e-5, "atol": 1e-4}


def packed_matrix(name: str, rows: int = 48, columns: int = 64) -> Packed:
    blocks = quantise(torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)), FORMATS[name])
    return Packed(blocks=blocks, format=FORMATS[name])


def weights(packed: Packed) -> torch.Tensor:
    return dequantise(packed.blocks, packed.format)


@pytest.mark.parametrize("name", ["q4_1", "q8_0"])
@pytest.mark.parametrize("forms", [READABLE, EXACT])
@pytest.mark.parametrize("biased", [False, True])
def test_linear_is_a_linear_map(name, forms, biased):
    packed = packed_matrix(name)
    bias, x = torch.randn(48) if biased else None, torch.randn(3, 64)
    part = QuantisedLinear(packed, bias)
    y = part(x, Context.of((3,), forms=forms))
    torch.testing.assert_close(y.detach(), F.linear(x, weights(packed), bias), **CLOSE)


def test_the_context_chooses_the_form():
    part, x = QuantisedLinear(packed_matrix("q4_1")), torch.randn(1, 64)
    part(x, Context.of((1,), forms=READABLE))
    assert part.packed.copies == {}
    seen = []
    mine = replace(READABLE, multiply=lambda x, packed: seen.append(packed) or x)
    part(x, Context.of((1,), forms=mine))
    assert seen == [part.packed]


def test_gradients_reach_x_and_bias_but_not_the_blocks():
    part = QuantisedLinear(packed_matrix("q4_1"), torch.zeros(48))
    x, dy = torch.randn(3, 64, requires_grad=True), torch.randn(3, 48)
    part(x, Context.of((3,), forms=EXACT)).backward(dy)
    torch.testing.assert_close(x.grad, dy @ weights(part.packed), **CLOSE)
    torch.testing.assert_close(part.bias.grad, dy.sum(0))
    assert [name for name, _ in part.named_parameters()] == ["bias"]


@pytest.mark.parametrize("name", ["q4_0", "q8_0"])
def test_embedding_looks_up_rows(name):
    packed = packed_matrix(name)
    ids = torch.tensor([3, 0, 47, 3])
    assert torch.equal(QuantisedEmbedding(packed)(ids), weights(packed)[ids])


def test_tied_logits_use_the_same_rows():
    packed, x = packed_matrix("q8_0"), torch.randn(2, 64)
    logits = QuantisedEmbedding(packed).logits(x, Context.of((2,), forms=EXACT))
    torch.testing.assert_close(logits, x @ weights(packed).T, **CLOSE)


def test_casting_a_model_casts_what_the_table_gives():
    table = QuantisedEmbedding(packed_matrix("q8_0"))
    blocks = table.packed.blocks
    assert table(torch.tensor([1])).dtype == torch.float32
    table.to(torch.bfloat16)
    assert table(torch.tensor([1])).dtype == torch.bfloat16
    assert table.packed.blocks is blocks


def test_state_holds_blocks_and_bias():
    assert set(QuantisedLinear(packed_matrix("q4_1"), torch.zeros(48)).state_dict()) == {"packed.blocks", "bias"}
    assert set(QuantisedEmbedding(packed_matrix("q8_0")).state_dict()) == {"packed.blocks"}


def test_parts_stand_in_for_plain_ones():
    model = torch.nn.Module()
    model.head = torch.nn.Linear(64, 48)
    model.set_submodule("head", QuantisedLinear(packed_matrix("q4_1")))
    assert isinstance(model.get_submodule("head"), QuantisedLinear)


def test_it_runs_without_numbers():
    part, table = (
        QuantisedLinear(packed_matrix("q4_1")).to("meta"),
        QuantisedEmbedding(packed_matrix("q8_0")).to("meta"),
    )
    context = Context.of((2,), device="meta")
    x = table(torch.zeros(2, dtype=torch.long, device="meta"))
    assert x.is_meta and x.shape == (2, 64)
    assert part(x, context).shape == (2, 48) and table.logits(x, context).shape == (2, 48)


def test_a_fan_is_its_maps_one_by_one_and_follows_them():
    def made(seed: int, rows: int, form: str = "q4_0") -> QuantisedLinear:
        weight = torch.randn(rows, 64, generator=torch.Generator().manual_seed(seed))
        return QuantisedLinear(Packed(blocks=quantise(weight, FORMATS[form]), format=FORMATS[form]))

    context = Context.of((2,))
    fan, x = Fan(), torch.randn(2, 64)
    for maps in (
        (made(0, 128), made(1, 64)),
        (made(2, 128), made(1, 64)),  # another module in the first place
        (made(0, 32, "q8_0"), made(1, 64, "q8_0")),
        (made(0, 64), made(1, 64, "q8_0")),  # two formats cannot be one
    ):
        for _ in range(2):
            for got, one in zip(fan(x, context, *maps), maps, strict=True):
                # The same products in the same kernels, in one call or several.
                assert torch.allclose(got, one(x, context), atol=1e-5)
        whole = fan.whole(x, context, *maps)
        assert (whole is None) == (maps[0].packed.format is not maps[1].packed.format)
        assert whole is None or torch.equal(whole, torch.cat(list(fan(x, context, *maps)), -1))
    first, second = made(0, 128), made(1, 64)
    fan(x, context, first, second)
    for part in (first, second):  # new blocks under the same modules, as after a move to another device
        part.packed.blocks = part.packed.blocks.clone()
        part.packed.blocks[:] = quantise(torch.randn(part.packed.shape[0], 64), FORMATS["q4_0"])
        part.packed.copies.clear()
    for got, one in zip(fan(x, context, first, second), (first, second), strict=True):
        assert torch.allclose(got, one(x, context), atol=1e-5)
    second.packed.blocks = quantise(torch.randn(64, 64), FORMATS["q4_0"])  # of one of them alone
    second.packed.copies.clear()
    for got, one in zip(fan(x, context, first, second), (first, second), strict=True):
        assert torch.allclose(got, one(x, context), atol=1e-5)
