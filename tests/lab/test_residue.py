"""What is counted on tensors without content is what real ones save."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cutaway.lab.residue import block_bytes, saved_bytes
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.norms import LayerNorm, RMSNorm
from cutaway.nn.positions import Rope

BLOCKS = [
    Block(
        mixer=GroupedQuery(heads=4, kv_heads=2, head_dim=8, rope=Rope(width=8)), feed=Gated(hidden=48), before=RMSNorm()
    ),
    Block(mixer=GroupedQuery(heads=4, kv_heads=4, head_dim=8, bias=True), feed=Plain(hidden=64), before=LayerNorm()),
]


def test_a_product_saves_its_input_once():
    x = torch.ones(3, 5, requires_grad=True)
    weight = nn.Parameter(torch.ones(5, 5))
    assert saved_bytes(lambda: x @ weight) == x.nbytes  # and the weight, which does not count
    assert saved_bytes(lambda: x @ weight.t()) == x.nbytes  # nor does a view of it
    assert saved_bytes(lambda: (x @ weight, x @ weight, x * x.detach())) == x.nbytes
    assert saved_bytes(lambda: (x @ weight).exp()) == 2 * x.nbytes  # exp keeps what it made


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("lengths", [(16, 16), (9, 20)])
def test_a_fake_block_saves_what_a_real_one_does(block, lengths):
    module, context = block.build(32), Context.of(lengths)
    x_ND = torch.randn(sum(lengths), 32, requires_grad=True)
    real = saved_bytes(lambda: module(x_ND, context))
    assert block_bytes(block, 32, lengths, torch.float32) == pytest.approx(real, rel=0.01)


def test_half_the_bytes_at_half_the_width_but_for_what_is_kept_in_float32():
    whole, half = (block_bytes(BLOCKS[1], 32, (32,), dtype) for dtype in (torch.float32, torch.bfloat16))
    assert 0.4 * whole < half < 0.8 * whole
    assert torch.get_default_dtype() == torch.float32
