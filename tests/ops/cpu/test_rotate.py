"""Norm, turn and cache of heads in one kernel, against the torch sibling: layouts, widths, stores of every kind."""

from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.ops import rope
from cutaway.ops.cpu.cache import Store
from cutaway.ops.cpu.rotate import (
    HeadNorm,
    Heads,
    clamped_kernel,
    clamped_readable,
    rotate_kernel,
    rotate_readable,
)
from cutaway.ops.narrow_row import decode, encode

CLOSE = {"rtol": 3e-6, "atol": 3e-6}  # fp32 products and sums in another order


def tables(positions, width, interleaved):
    return rope.tables(rope.frequencies(10000.0, width), positions, interleaved=interleaved)


def head_norm(width, centred):
    biases = {"query_bias": torch.randn(width), "key_bias": torch.randn(width)} if centred else {}
    weights = {"query": torch.randn(width), "key": torch.randn(width)}
    return HeadNorm(**weights, **biases, eps=1e-5, offset=0.0 if centred else 1.0, centred=centred)


@pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "neighbours"])
@pytest.mark.parametrize(("heads", "kv_heads", "width", "turned"), [(9, 3, 64, 64), (4, 1, 80, 20), (5, 5, 16, 6)])
def test_turned_and_normed_as_the_equations_say(kernels, interleaved, heads, kv_heads, width, turned):
    torch.manual_seed(width)
    shape = Heads(heads=heads, kv_heads=kv_heads, width=width, value_width=width)
    x, told = torch.randn(3, shape.row), tables(torch.tensor([5, 0, 1000]), turned, interleaved)
    for norm in (None, head_norm(width, False), head_norm(width, True)):
        found = rotate_kernel(x, shape, told, interleaved=interleaved, norm=norm)
        right = rotate_readable(x, shape, told, interleaved=interleaved, norm=norm)
        torch.testing.assert_close(found, right, **CLOSE)
    assert torch.equal(rotate_kernel(x, shape), x)  # nothing asked for, nothing done


@pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "neighbours"])
@pytest.mark.parametrize("most", [0, 3, 9])
@pytest.mark.parametrize("turned", [32, 6])
def test_queries_that_look_at_sinks_turn_no_further(kernels, interleaved, most, turned):
    """And those that look at the window turn as ever."""
    shape = Heads(heads=4, kv_heads=2, width=32, value_width=32)
    x, told = torch.randn(7, shape.row), tables(torch.arange(7), turned, interleaved)
    for norm in (None, head_norm(32, True)):
        found = clamped_kernel(x, shape, told, most, interleaved=interleaved, norm=norm)
        near = rotate_kernel(x, shape, told, interleaved=interleaved, norm=norm)[:, :128].unflatten(-1, (4, 32))
        right = clamped_readable(x, shape, told, most, interleaved=interleaved, norm=norm)
        torch.testing.assert_close(found, right, **CLOSE)
        assert torch.equal(found[: most + 1], near[: most + 1])
        assert all(not torch.equal(*pair) for pair in zip(found[most + 1 :], near[most + 1 :], strict=True))


def empty(dtype, paged, rows, kv_heads, width, value_width):
    def numbers(last):
        return torch.zeros(rows, kv_heads, last + 2 * (dtype == torch.int8)).to(dtype)

    if not paged:
        return Store.contiguous(numbers(width), numbers(value_width), torch.tensor([0, rows // 2]))
    table = torch.tensor([[3, 0, 7], [2, 5, 1]])
    return Store.paged(numbers(width).unflatten(0, (-1, 4)), numbers(value_width).unflatten(0, (-1, 4)), table)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8], ids=str)
@pytest.mark.parametrize("paged", [False, True], ids=["contiguous", "paged"])
def test_keys_and_values_find_their_places(kernels, dtype, paged):
    torch.manual_seed(1)
    shape = Heads(heads=4, kv_heads=2, width=32, value_width=48)
    x, told = torch.randn(4, shape.row), tables(torch.tensor([0, 1, 9, 4]), 32, False)
    x[2, 4 * 32 : 5 * 32] = 0  # a head of zeros has the scale 0
    ours, theirs = (empty(dtype, paged, 32, 2, 32, 48) for _ in range(2))
    where = {"slots_N": torch.tensor([0, 0, 1, 1]), "places_N": torch.tensor([0, 1, 9, 4])}
    rotate_kernel(x, shape, told, store=ours, **where)
    rotate_readable(x, shape, told, store=theirs, **where)
    if dtype == torch.int8:
        # What is kept unchanged has the same bytes. Turned keys differ in fp32's last bit, which may decide a near tie
        # of bytes or scales: then by one step.
        assert torch.equal(ours.values, theirs.values)
        step = decode(theirs.keys).abs().amax(-1, keepdim=True) / 127
        assert ((decode(ours.keys) - decode(theirs.keys)).abs() <= step * 1.01).all()
        assert (ours.keys == theirs.keys).float().mean() > 0.99
    else:
        # Rounded to the store's own precision, once: a unit in its last place where fp32's last bit decides.
        unit = 3e-6 if dtype == torch.float32 else torch.finfo(dtype).eps
        torch.testing.assert_close(ours.keys, theirs.keys, rtol=unit, atol=3e-6)
        torch.testing.assert_close(ours.values, theirs.values, rtol=0, atol=0)
    k_SGK, _ = ours.read(1, 10)
    assert k_SGK[9].abs().sum() > 0 and k_SGK[8].abs().sum() == 0  # and nowhere else


def test_int8_is_off_by_half_a_step_at_most(kernels):
    shape = Heads(heads=1, kv_heads=1, width=64, value_width=64)
    x, store = torch.randn(6, shape.row) * 10, empty(torch.int8, False, 32, 1, 64, 64)
    rotate_kernel(x, shape, store=store, slots_N=torch.zeros(6), places_N=torch.arange(6))
    k_SGK, v_SGV = store.read(0, 6)
    for kept, new in ((k_SGK[:, 0], x[:, 64:128]), (v_SGV[:, 0], x[:, 128:])):
        assert ((kept - new).abs() <= new.abs().amax(-1, keepdim=True) / 127 * 0.501).all()
    # Bit for bit what torch keeps, scales too, of numbers of every size.
    x *= torch.logspace(-8, 3, 6)[:, None]
    rotate_kernel(x, shape, store=store, slots_N=torch.zeros(6), places_N=torch.arange(6))
    assert torch.equal(store.keys[:6, 0], encode(x[:, 64:128])) and torch.equal(store.values[:6, 0], encode(x[:, 128:]))


def test_widths_that_no_kernel_takes_are_refused():
    with pytest.raises(BadInput, match="multiples of 16"):
        Heads(heads=1, kv_heads=1, width=20, value_width=16)
    with pytest.raises(BadInput, match="no multiple of 16"):
        Store.contiguous(torch.zeros(4, 1, 20), torch.zeros(4, 1, 20), torch.tensor([0]))
    with pytest.raises(BadInput, match="no multiple of 16"):  # room for the scale is wanted
        Store.contiguous(torch.zeros(4, 1, 16).to(torch.int8), torch.zeros(4, 1, 16).to(torch.int8), torch.tensor([0]))
