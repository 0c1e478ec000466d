"""Linear maps in training against their torch sibling, forward and in every gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.norms import LayerNorm
from cutaway.nn.positions import Rope
from cutaway.ops.choice import ATTEND
from cutaway.ops.cpu import dense
from cutaway.ops.cpu.dense import FEWEST, linear_kernel, linear_kernels
from cutaway.ops.cpu.list import alone
from cutaway.ops.forms import FAST, READABLE, Forms
from cutaway.ops.linear import linear_fast, linear_readable

# N rows · C columns · R rows of the weight. Tiles are 12 (6) rows by 32 (16) columns, sums are cut at 192 products.
SHAPES = {
    "whole tiles": (48, 64, 96),
    "one number": (1, 1, 1),
    "odd": (37, 21, 65),
    "a few rows": (3, 40, 33),
    "narrow": (50, 70, 5),
    "long sums": (2100, 1030, 17),
    "no rows": (0, 8, 8),
    "nothing to sum": (5, 0, 8),
}


def drawn(rows, columns, outputs):
    make = torch.Generator().manual_seed(rows + columns + outputs)
    shapes = [(rows, columns), (outputs, columns), (outputs,), (rows, outputs)]
    return [torch.randn(shape, generator=make) for shape in shapes]


def with_gradients(form, leaves, slope):
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    y = form(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, slope)]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_any_shape_by_the_equation(kernels, shape, bias):
    *leaves, slope = drawn(*shape)
    leaves = leaves if bias else leaves[:2]
    found = with_gradients(linear_kernel, leaves, slope)
    expected = with_gradients(linear_readable, [leaf.double() for leaf in leaves], slope.double())
    for one, other in zip(found, expected, strict=True):
        # Sums of up to 2,100 products of numbers about one, in parts of 192: fp32 is off by 2e-6 times their root.
        torch.testing.assert_close(one, other.float(), rtol=1e-5, atol=2e-6 * max(shape) ** 0.5)


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
def test_rows_and_columns_in_any_order_and_on_top_of_what_is_there(kernels, turned, adds):
    rows, count, columns = 29, 1100, 70
    a = torch.randn(count, rows).t() if turned[0] else torch.randn(rows, count)
    b = torch.randn(columns, count).t() if turned[1] else torch.randn(count, columns)
    bias, whole = torch.randn(columns), torch.full((rows, columns + 3), 2.0)
    out = whole[:, :columns]
    alone("dense", dense._told(a, b, out, bias, adds=adds))
    expected = a.double() @ b.double() + bias + 2.0 * adds
    torch.testing.assert_close(out, expected.float(), rtol=1e-5, atol=4e-4)
    assert bool((whole[:, columns:] == 2.0).all())  # what lies between the rows stays


def test_threads_change_nothing(kernels):
    *leaves, slope = drawn(61, 130, 100)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 5, 40):
        torch.set_num_threads(threads)
        try:
            found.append(with_gradients(linear_kernel, leaves, slope))
        finally:
            torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_strides_do_not_matter(kernels):
    x_NC, weight_RC, bias_R, slope_NR = drawn(40, 24, 33)
    expected = with_gradients(linear_kernel, (x_NC, weight_RC, bias_R), slope_NR)
    spread = [torch.stack((one, one), -1)[..., 0] for one in (x_NC, weight_RC, bias_R, slope_NR)]
    assert not any(one.is_contiguous() for one in spread)
    leaves = [one.requires_grad_() for one in spread[:3]]
    y_NR = linear_kernel(*leaves)
    found = [y_NR.detach(), *torch.autograd.grad(y_NR, leaves, spread[3])]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    summed = torch.autograd.grad(linear_kernel(*leaves).sum(), leaves)  # a slope of one number, everywhere the same
    torch.testing.assert_close(summed[1], x_NC.sum(0).expand(33, 24), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("learns", [(True, False), (False, True)], ids=["input", "weight"])
def test_only_what_learns_gets_a_gradient(kernels, monkeypatch, learns):
    made = []
    monkeypatch.setattr(dense, "_told", lambda *given, told=dense._told, **more: made.append(1) or told(*given, **more))
    x_NC, weight_RC, _, slope_NR = drawn(40, 24, 33)
    x_NC.requires_grad_(learns[0])
    weight_RC.requires_grad_(learns[1])
    linear_kernel(x_NC, weight_RC).backward(slope_NR)
    assert (x_NC.grad is not None, weight_RC.grad is not None) == learns
    assert len(made) == 2  # one product forward, one back


class Sharded(torch.Tensor):
    """Stands for a tensor whose numbers lie elsewhere."""


def held(dtype=torch.float32, rows=FEWEST, axes=()):
    x, weight = torch.randn(*axes, rows, 16, dtype=dtype), torch.randn(8, 16, dtype=dtype)
    return x, weight.requires_grad_(), torch.randn(8, dtype=dtype)


ELSEWHERE = {
    "another dtype": held(torch.float64),
    "few rows": held(rows=FEWEST - 1),
    "more axes": held(axes=(FEWEST,)),
    "nothing learns": tuple(one.detach() for one in held()),
    "a tensor of another kind": (held()[0].as_subclass(Sharded), *held()[1:]),
}


@pytest.mark.parametrize("given", ELSEWHERE.values(), ids=ELSEWHERE)
def test_what_it_lacks_torch_does(kernels, monkeypatch, given):
    monkeypatch.setattr(dense, "linear_kernel", None)
    assert torch.equal(linear_kernels(*given), linear_fast(*given))


def test_without_gradients_under_autocast_and_without_a_compiler_torch_does_it(kernels, monkeypatch):
    monkeypatch.setattr(dense, "linear_kernel", None)
    given = held()
    with torch.no_grad():
        assert torch.equal(linear_kernels(*given), linear_fast(*given))
    with torch.autocast("cpu", torch.bfloat16):
        y = linear_kernels(*given)
        assert y.dtype == torch.bfloat16 and torch.equal(y, linear_fast(*given))
    monkeypatch.setattr(dense.lists, "library", lambda: None)
    assert torch.equal(linear_kernels(*given), linear_fast(*given))


def test_what_learns_goes_through_it(kernels, monkeypatch):
    seen = []
    monkeypatch.setattr(dense, "linear_kernel", lambda *given: seen.append(given) or linear_kernel(*given))
    x, weight, bias = held()
    for learned in (weight, nn.Parameter(weight.detach())):
        torch.testing.assert_close(linear_kernels(x, learned, bias), linear_fast(x, learned, bias))
    assert len(seen) == 2


def test_it_says_where_there_is_a_second_way_back(kernels):
    x, weight, _ = held()
    (slope,) = torch.autograd.grad(linear_kernel(x, weight).square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def gradients(module, ids_N, forms):
    logits_NV, _ = module(ids_N, Context.of((40, 51), forms=forms))
    loss = torch.nn.functional.cross_entropy(logits_NV, ids_N.roll(-1))
    return torch.autograd.grad(loss, list(module.parameters()))


def test_a_models_gradients_are_as_exact_as_torchs(kernels):
    torch.manual_seed(0)
    mixer = GroupedQuery(heads=4, kv_heads=2, head_dim=16, rope=Rope(width=16), bias=True)
    blocks = (
        Block(mixer=mixer, feed=Gated(hidden=85), before=LayerNorm()),
        Block(mixer=mixer, feed=Plain(hidden=150, activation="gelu"), before=LayerNorm(bias=False)),
    )
    module = Decoder(vocab=50, dim=64, blocks=blocks, length=64, norm=LayerNorm()).build()
    ids_N, kernel = torch.randint(0, 50, (91,)), ATTEND["kernels"]
    ours = Forms(attend=kernel.form, activate=kernel.activate or FAST.activate, linear=kernel.linear or FAST.linear)
    by_torch, by_kernels = gradients(module, ids_N, FAST), gradients(module, ids_N, ours)
    right = gradients(module.double(), ids_N, READABLE)
    for torchs, found, expected in zip(by_torch, by_kernels, right, strict=True):
        size = expected.norm()
        assert (found - expected).norm() < 2 * (torchs - expected).norm() + 1e-6 * size
