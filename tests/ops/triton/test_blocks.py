from __future__ import annotations

from dataclasses import replace

import pytest
import torch

pytest.importorskip("triton", reason="the extra triton is not installed")

from cutaway.base.errors import BadInput
from cutaway.nn.attention.native_sparse import NativeSparse
from cutaway.nn.context import Context
from cutaway.ops.block_sparse import attend_blocks_readable
from cutaway.ops.forms import FAST
from cutaway.ops.triton.blocks import attend_blocks_flash
from cutaway.ops.visible import Visible

# In steps of the dtype, of the whole tensor by its norm; see STEPS of test_flash.py.
STEPS = {torch.float64: 100, torch.float32: 10, torch.bfloat16: 2}


def check_blocks(device, form, dtype, *, causal=True, heads=6, block=3, width=3, value_width=5):
    """Forward and gradient against the readable form in float64: sequences of several lengths, choices with gaps, one
    query that sees nothing, blocks that lie behind a query."""
    make = torch.Generator().manual_seed(heads)
    see = Visible(queries=(5, 1, 3), keys=(5, 9, 7), causal=causal)
    shapes = ((9, heads, width), (21, 2, width), (21, 2, value_width))
    given = [torch.randn(shape, generator=make, dtype=torch.float64).to(dtype) for shape in shapes]
    chosen_NGJ = torch.stack([torch.randperm(4, generator=make)[:3] for _ in range(18)]).view(9, 2, 3)
    chosen_NGJ[0], chosen_NGJ[4, 1, 1] = -1, -1
    results = []
    for attend, wide, where in ((form, dtype, device), (attend_blocks_readable, torch.float64, torch.device("cpu"))):
        leaves = [tensor.to(where, wide).requires_grad_() for tensor in given]
        y_NHV = attend(*leaves, see, chosen_NGJ.to(where), block=block, scale=0.7)
        results.append([y_NHV.detach(), *torch.autograd.grad(y_NHV.double().sin().sum(), leaves)])
    for name, ours, exact in zip(("output", "dq", "dk", "dv"), *results, strict=True):
        assert ours.dtype == dtype, name
        error = float((ours.cpu().double() - exact).norm() / exact.norm())
        assert error < STEPS[dtype] * torch.finfo(dtype).eps, f"{name} in {dtype}: off by {error:.2g} of its size"


@pytest.mark.parametrize("dtype", STEPS)
def test_it_is_the_readable_form_forward_and_gradient(device, dtype):
    check_blocks(device, attend_blocks_flash, dtype)


@pytest.mark.proof
@pytest.mark.parametrize("dtype", STEPS)
def test_other_heads_blocks_and_what_all_may_see(device, dtype):
    check_blocks(device, attend_blocks_flash, dtype, heads=2, block=4, width=20)
    check_blocks(device, attend_blocks_flash, dtype, heads=8, block=17, value_width=1)
    check_blocks(device, attend_blocks_flash, dtype, causal=False)


def test_native_sparse_attention_runs_on_it(device):
    """Float64: the whole mixer, whose selection this is, as with the gathered form."""
    spec = NativeSparse(heads=4, kv_heads=2, head_dim=8, block=4, stride=2, select=4, top_k=4, window=5)
    module, x_ND = spec.build(16).double().to(device), torch.randn(23, 16, dtype=torch.float64, device=device)
    found = []
    for forms in (FAST, replace(FAST, attend_blocks=attend_blocks_flash)):
        y_ND = module(x_ND, Context.of((14, 9), forms=forms, device=device))[0]
        found.append([y_ND, *torch.autograd.grad(y_ND.sin().sum(), list(module.parameters()), allow_unused=True)])
    for ours, theirs in zip(*found, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_no_queries_and_other_rules(device):
    rows, chosen_NGJ = torch.zeros(2, 1, 4, device=device), torch.zeros(2, 1, 1, dtype=torch.long, device=device)
    none = Visible(queries=(0,), keys=(2,))
    assert attend_blocks_flash(rows[:0], rows, rows, none, chosen_NGJ[:0], block=2, scale=1.0).shape == (0, 1, 4)
    with pytest.raises(BadInput, match="without a window"):
        see = Visible(queries=(2,), keys=(2,), window=1)
        attend_blocks_flash(rows, rows, rows, see, chosen_NGJ, block=2, scale=1.0)


FAULTS = [
    ("(key_C <= last)", "(key_C < last)"),
    ("(number >= 0) &", "(number >= 1) &"),
    ("first + key_C, seen_C, group, groups, V", "first + place_C, seen_C, group, groups, V"),
    ("total_R * shrink_R +", "total_R +"),
    ("- mean_R[:, None]) * SCALE", ") * SCALE"),
    ("dq_RK += product(ds_RC, k_CK)", "dq_RK = product(ds_RC, k_CK)"),
    ("tl.atomic_add(pointer + places, values, mask=", "tl.store(pointer + places, values, mask="),
]


@pytest.mark.proof
@pytest.mark.parametrize(("right", "wrong"), FAULTS, ids=lambda text: text[:40])
def test_the_check_catches_a_kernel_with_a_fault(device, spoilt, right, wrong):
    form = spoilt("blocks", right, wrong)("blocks").attend_blocks_flash
    with pytest.raises(AssertionError, match="off by"):
        check_blocks(device, form, torch.float64)
