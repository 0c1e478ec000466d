"""Slabs give the product and its gradient, keep nothing for the way back, and leave no weights behind."""

from __future__ import annotations

import pytest
import torch

from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.multiply import slabs as module
from cutaway.ops.multiply.slabs import SCRATCH, multiply_slabs

# fp32 sums in another order: 1e-5 of the sizes of all terms is far above, and far below any real mistake.
CLOSE = 1e-5


@pytest.fixture
def small_slabs(monkeypatch):
    """Slabs of few rows, so that small matrices have many."""
    monkeypatch.setattr(module, "SLAB", 4096)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("count", [0, 1, 37])
def test_product_is_that_of_the_weights(name, count, matrix, small_slabs):
    packed = matrix(name, 37, 768)
    x, w = torch.randn(count, 768), dequantise(packed.blocks, packed.format)
    found = multiply_slabs(x, packed.blocks, packed.format)
    assert found.shape == (count, 37)
    assert ((found - x @ w.T).abs() <= CLOSE * (x.abs() @ w.abs().T)).all()


@pytest.mark.parametrize("name", ["q4_1", "q6_k"])
def test_gradient_is_that_of_the_weights(name, matrix, small_slabs):
    packed = matrix(name, 37, 256)
    w = dequantise(packed.blocks, packed.format)
    x = torch.randn(5, 256, requires_grad=True)
    dy = torch.randn(5, 37)
    multiply_slabs(x, packed.blocks, packed.format).backward(dy)
    assert ((x.grad - dy @ w).abs() <= CLOSE * (dy.abs() @ w.abs())).all()


def test_gradient_by_finite_differences(matrix, small_slabs):
    packed = matrix("q5_1", 9, 64)
    x = torch.randn(2, 64, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: multiply_slabs(x, packed.blocks, packed.format), x)


def test_nothing_is_kept_for_the_way_back(matrix):
    packed, kept = matrix("q8_0", 64, 64), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        multiply_slabs(torch.randn(3, 64, requires_grad=True), packed.blocks, packed.format)
    assert kept == []


def test_the_scratch_holds_one_slab(matrix, monkeypatch):
    monkeypatch.setattr(SCRATCH, "flat", {})
    monkeypatch.setattr(module, "SLAB", 4096)
    packed = matrix("q4_0", 1024, 64)
    multiply_slabs(torch.randn(2, 64), packed.blocks, packed.format)
    assert [flat.numel() for flat in SCRATCH.flat.values()] == [4096]


def test_scratch_of_inference_serves_training(matrix, monkeypatch):
    monkeypatch.setattr(SCRATCH, "flat", {})
    packed = matrix("q4_1", 16, 64)
    with torch.inference_mode():
        multiply_slabs(torch.randn(20, 64), packed.blocks, packed.format)
    x = torch.randn(20, 64, requires_grad=True)
    multiply_slabs(x, packed.blocks, packed.format).sum().backward()
    assert x.grad is not None


def test_products_in_bfloat16(matrix):
    packed = matrix("q4_1", 48, 256)
    x, w = torch.randn(20, 256), dequantise(packed.blocks, packed.format)
    found, y = multiply_slabs(x, packed.blocks, packed.format, torch.bfloat16), x @ w.T
    assert found.dtype == torch.float32
    # x, w and y are rounded to 8 significant bits each, half a unit of which is 2^-9; sums are at least as good.
    assert ((found - y).abs() <= 3 * 2**-9 * (x.abs() @ w.abs().T)).all()
    assert not torch.equal(found, y)


def test_it_runs_without_numbers(matrix):
    packed = matrix("q4_k", 16, 256)
    y = multiply_slabs(torch.empty(3, 256, device="meta"), packed.blocks.to("meta"), packed.format)
    assert y.is_meta and y.shape == (3, 16)
