"""Linear maps in training against their torch sibling, forward and in every gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cutaway.base.errors import BadInput
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


@pytest.mark.parametrize("power", [1, 3])  # a slope that is the same everywhere, and one that has a graph
def test_gradients_of_gradients_are_torchs(kernels, power):
    found, (x, weight, bias) = [], held()
    x.requires_grad_()
    for form in (linear_kernel, linear_fast):
        slopes = torch.autograd.grad(form(x, weight, bias).pow(power).sum(), (x, weight), create_graph=True)
        penalty = sum(slope.square().sum() for slope in slopes)
        found.append(torch.autograd.grad(penalty, (x, weight)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-2 * float(theirs.abs().mean()))


def test_what_no_gradient_needs_is_not_kept(kernels):
    """As with a frozen weight, whose map keeps no input, and may be written to before the way back."""
    x, weight, _ = held()
    for learns, other in ((x, weight), (weight, x)):
        learns, other = learns.detach().requires_grad_(), other.detach().clone()
        kept: list[torch.Size] = []

        def keep(one, kept=kept):
            kept.append(one.shape)
            return one

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one):
            y = linear_kernel(learns, other) if learns.shape == x.shape else linear_kernel(other, learns)
        assert kept == [other.shape]
        y.sum().backward()
        assert learns.grad is not None and other.grad is None


def test_shapes_that_do_not_fit_are_torchs_to_refuse_or_spread(kernels):
    x, weight, bias = held()
    for wrong in ((x[:, 1:], weight, bias), (x, weight[:, 1:], bias), (x, weight, bias[1:])):
        with pytest.raises(BadInput, match="as many columns"):
            linear_kernel(*wrong)
        with pytest.raises(RuntimeError):
            linear_kernels(*wrong)
    one = torch.ones(1)
    torch.testing.assert_close(linear_kernels(x, weight, one), linear_fast(x, weight, one))


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # within torch, as it is imported
def test_what_wraps_tensors_is_left_to_torch(kernels):
    x, weight, bias = held()

    def of(form):
        return lambda given: form(given, weight, bias).square().sum()

    torch.testing.assert_close(torch.func.grad(of(linear_kernels))(x), torch.func.grad(of(linear_fast))(x))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        told = [torch.autograd.forward_ad.unpack_dual(of(form)(dual)).tangent for form in (linear_kernels, linear_fast)]
    torch.testing.assert_close(*told)


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
