"""Causal attention in training against its torch sibling, forward and in every gradient."""

from __future__ import annotations

import weakref

import pytest
import torch

from cutaway.lab.checks.attend import check_attend
from cutaway.ops.attend import attend_sdpa
from cutaway.ops.cpu import causal
from cutaway.ops.cpu.causal import attend_kernels, causal_kernel, causal_readable
from cutaway.ops.visible import Visible

# fp32 sums of up to 300 terms in another order, beside float64: a few parts in a million.
CLOSE = {"rtol": 2e-5, "atol": 2e-5}
SHAPES = {
    "one text": ((64,), 4, 4, 32),
    "odd lengths": ((1, 7, 16, 33, 2, 65), 4, 2, 16),
    "one key head": ((40, 40), 6, 1, 48),
    "long": ((300,), 2, 2, 64),
    "an empty one": ((5, 0, 17), 3, 3, 16),
}


def drawn(lengths, heads, kv_heads, width, size=1.0):
    make = torch.Generator().manual_seed(sum(lengths))
    shapes = [(sum(lengths), count, width) for count in (heads, kv_heads, kv_heads, heads)]
    return [size * torch.randn(shape, generator=make) for shape in shapes]


def with_gradients(form, leaves, slope):
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    y = form(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, slope)]


@pytest.mark.parametrize("size", [1.0, 3.0], ids=["flat", "sharp"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_any_shape_by_the_equation(kernels, shape, size):
    lengths, heads, kv_heads, width = shape
    *leaves, slope = drawn(lengths, heads, kv_heads, width, size)
    found = with_gradients(lambda *qkv: causal_kernel(*qkv, lengths, 0.3), leaves, slope)
    wide = [leaf.double() for leaf in leaves]
    expected = with_gradients(lambda *qkv: causal_readable(*qkv, lengths, 0.3), wide, slope.double())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=2e-5, atol=2e-5 * size**3)


def test_threads_change_nothing(kernels):
    *leaves, slope = drawn((30, 50, 9), 4, 2, 32)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        try:
            found.append(with_gradients(lambda *qkv: causal_kernel(*qkv, (30, 50, 9), 0.2), leaves, slope))
        finally:
            torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_where_texts_begin_stays_until_the_kernels_have_read_it(kernels, monkeypatch):
    """Other threads may train on other lengths meanwhile, and what is remembered of these goes."""
    *leaves, slope = drawn((30, 9), 4, 2, 32)
    held, alone, ran = weakref.ref(causal._starts((30, 9))), causal.alone, []

    def crowded(name, told):
        causal._starts.cache_clear()
        ran.append((name, held() is not None))
        alone(name, told)

    monkeypatch.setattr(causal, "alone", crowded)
    with_gradients(lambda *qkv: causal_kernel(*qkv, (30, 9), 0.2), leaves, slope)
    assert ran == [("causal", True), ("causal_back", True)]


def test_strides_do_not_matter(kernels):
    """Heads that lie among others: of one product for queries, keys and values."""
    whole = torch.randn(20, 3, 2, 16)
    told = [whole[:, index] for index in range(3)]
    expected = causal_kernel(*[one.contiguous() for one in told], (20,), 0.25)
    assert torch.equal(causal_kernel(*told, (20,), 0.25), expected)


@pytest.mark.parametrize(
    ("see", "told"),
    [
        (Visible(queries=(8,), keys=(8,), window=3), {}),
        (Visible(queries=(8,), keys=(8,), causal=False), {}),
        (Visible(queries=(8,), keys=(8,), prefix=(4,)), {}),
        (Visible(queries=(8,), keys=(8,)), {"softcap": 2.0}),
        (Visible(queries=(8,), keys=(8,)), {"bias": lambda index: torch.ones(2, 8, 8).cumsum(2)}),
    ],
    ids=["window", "both ways", "prefix", "soft cap", "bias"],
)
def test_what_they_lack_torch_does(kernels, monkeypatch, see, told):
    monkeypatch.setattr(causal, "causal_kernel", None)
    q, k, v, _ = (one.requires_grad_() for one in drawn((8,), 2, 2, 16))
    assert torch.equal(attend_kernels(q, k, v, see, scale=0.3, **told), attend_sdpa(q, k, v, see, scale=0.3, **told))


def test_as_a_form_of_attention(kernels):
    """Every check of the replaceable function: what is not the kernels' goes on to torch."""
    check_attend(attend_kernels)


def test_under_autocast_it_stays_in_float32(kernels):
    q, k, v, _ = (one.bfloat16().requires_grad_() for one in drawn((12,), 2, 2, 16))
    see = Visible(queries=(12,), keys=(12,))
    with torch.autocast("cpu", torch.bfloat16):
        y = attend_kernels(q, k, v, see, scale=0.25)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, causal_readable(q.float(), k.float(), v.float(), (12,), 0.25).bfloat16())
