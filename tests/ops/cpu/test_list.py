"""Lists of operations: products and sums by their siblings, order, threads, several at once; none without kernels."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from cutaway.ops.blocks.format import format_named
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.cpu import list as lists
from cutaway.ops.cpu.list import Add, Laid, NoKernels, Operations, Output, Product, add_kernel, add_readable
from cutaway.ops.cpu.norm import Norm, norm_kernel, norm_readable
from cutaway.ops.cpu.pack import Strips

CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # fp32 sums of 64 to 576 products in another order


@pytest.mark.parametrize("count", [1, 15, 16, 100, 577])
def test_a_sum(kernels, count):
    x, y = torch.randn(count), torch.randn(count)
    torch.testing.assert_close(add_kernel(x, y, 0.5), add_readable(x, y, 0.5), rtol=1e-6, atol=1e-6)


def normed_product(x, weight, strips, bias, y, *, int8):
    """norm, then a product onto y, as one list."""
    rows, width = x.shape
    laid, operations = Laid(rows, width, int8=int8), Operations()
    norm = Norm(x.data_ptr(), weight.data_ptr(), None, None, None, laid.structure, width, 0, rows, 1, width)
    norm.eps = 1e-5
    operations.append("norm", norm, x, weight)
    out = Output(y.data_ptr(), y.shape[1], bias.data_ptr(), True)
    operations.append("product", Product(strips.struct, laid.structure, out), laid, strips, y, bias)
    return operations


@pytest.mark.parametrize("rows", [1, 3, 16, 21])
@pytest.mark.parametrize("int8", [False, True], ids=["fp32", "int8"])
def test_a_norm_and_a_product_of_it(kernels, rows, int8):
    torch.manual_seed(rows)
    x, weight, bias, y = torch.randn(rows, 64), torch.randn(64), torch.randn(80), torch.randn(rows, 80)
    strips, before = Strips.of(quantise(torch.randn(80, 64), format_named("q4_0")), format_named("q4_0")), y.clone()
    operations = normed_product(x, weight, strips, bias, y, int8=int8)
    unit, w = norm_readable(x, weight, eps=1e-5), strips.weights()
    right = before + lists.product_readable(unit, w, bias)
    operations.run()
    # int8: each group's numbers are off by half a step, 1/254 of its largest (ops/cpu/pack.py).
    steps = unit.unflatten(1, (-1, 32)).abs().amax(-1) / 127
    bound = (steps @ w.abs().unflatten(1, (-1, 32)).sum(-1).T) * 0.501 if int8 else torch.zeros(())
    assert ((y - right).abs() <= bound + 1e-5 * (1 + right.abs())).all()


def test_a_list_runs_again_on_what_is_there_then(kernels):
    x, y, operations = torch.ones(40), torch.zeros(40), Operations()
    for scale in (1.0, 10.0):
        operations.append("add", Add(x.data_ptr(), y.data_ptr(), 40, scale), x, y)
    operations.run()
    x.fill_(2.0)
    operations.run(threads=2)
    assert (y == 11 + 22).all()


def test_several_lists_at_once(kernels):
    """Each call has a team of threads and a barrier of its own."""

    def one(seed: int) -> bool:
        generator = torch.Generator().manual_seed(seed)
        x, weight = torch.randn(9, 96, generator=generator), torch.randn(96, generator=generator)
        return all(
            torch.allclose(norm_kernel(x, weight, eps=1e-5), norm_readable(x, weight, eps=1e-5), **CLOSE)
            for _ in range(20)
        )

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(one, range(6)))


@pytest.mark.parametrize("int8", [False, True], ids=["fp32", "int8"])
def test_engines_of_several_threads_do_not_touch_each_other(kernels, int8):
    """Lists over the same weights, each on two threads, to the last bit what each gives alone: which thread computes a
    number does not change it."""
    torch.manual_seed(0)
    form = format_named("q4_0")
    strips, weight = Strips.of(quantise(torch.randn(80, 64), form), form), torch.randn(64)
    lists_and_results = []
    for seed in range(4):
        torch.manual_seed(seed)
        x, bias, y = torch.randn(1 + 5 * seed, 64), torch.randn(80), torch.zeros(1 + 5 * seed, 80)
        operations = normed_product(x, weight, strips, bias, y, int8=int8)
        operations.run(threads=1)
        right = y.clone()
        assert right.count_nonzero()
        lists_and_results.append((operations, y, right))

    def again(one) -> bool:
        operations, y, right = one
        for _ in range(100):
            y.zero_()
            operations.run(threads=2)
            if not torch.equal(y, right):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(again, lists_and_results))


def test_on_as_many_threads_as_torch_was_told(kernels, monkeypatch):
    """`--threads` tells torch; whoever asks for a number gets that."""
    x, y, operations, seen = torch.ones(40), torch.zeros(40), Operations(), []
    operations.append("add", Add(x.data_ptr(), y.data_ptr(), 40, 1.0), x, y)
    fake = SimpleNamespace(add=kernels.add, run_list=lambda steps, count, threads, *rest: seen.append(threads))
    monkeypatch.setattr(operations, "_library", fake)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    operations.run()
    operations.run(threads=3)
    assert seen == [7, 3]


def test_whoever_watches_is_told_what_ran_and_how_long(kernels):
    x, y, operations, told = torch.ones(40000), torch.zeros(40000), Operations(), []
    for scale in (1.0, 10.0):
        operations.append("add", Add(x.data_ptr(), y.data_ptr(), 40000, scale), x, y)
    begun = time.perf_counter()
    with lists.watching(lambda names, seconds: told.append((names, seconds))):
        operations.run(threads=2)
    whole = time.perf_counter() - begun
    operations.run(threads=2)
    ((names, seconds),) = told  # once: nobody watched the second time
    assert names == ("add", "add") and len(seconds) == 2 and min(seconds) > 0 and sum(seconds) < whole
    assert (y == 22).all()


def test_without_kernels_it_says_so(monkeypatch):
    monkeypatch.setattr(lists, "library", lambda: None)
    with pytest.raises(NoKernels, match="no compiled kernels"):
        Operations()
