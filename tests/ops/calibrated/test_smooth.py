from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.blocks.absmax import round_absmax
from cutaway.ops.blocks.scheme import Absmax
from cutaway.ops.calibrated.smooth import TENSOR, product_int8, product_smooth, smoothing

ROW = Absmax(bits=8, share="row")


def case() -> tuple[Tensor, Tensor, Tensor]:
    """Weights, and inputs with three columns a hundred times as large; and others of the same kind."""
    generator = torch.Generator().manual_seed(0)
    size = torch.ones(64)
    size[:3] = 100.0
    return torch.randn(24, 64, generator=generator), *(
        torch.randn(300, 64, generator=generator) * size for _ in range(2)
    )


def error(found: Tensor, x: Tensor, w: Tensor) -> float:
    exact = x.double() @ w.double().T
    return float((found.double() - exact).square().sum() / exact.square().sum())


@pytest.mark.parametrize("scheme", [TENSOR, ROW])
def test_the_product_is_that_of_the_rounded_numbers(scheme):
    w, x, _ = case()
    rounded = round_absmax(x, TENSOR).numbers().double() @ round_absmax(w, scheme).numbers().double().T
    torch.testing.assert_close(product_int8(x, w, scheme).double(), rounded, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scheme", [TENSOR, ROW])
def test_it_beats_rounding_inputs_as_they_are(scheme):
    w, x, fresh = case()
    scale = smoothing(x.abs().amax(0), w)
    for inputs in (x, fresh):
        plain, smooth = product_int8(inputs, w, scheme), product_smooth(inputs, w, scale, scheme)
        assert error(smooth, inputs, w) < 0.25 * error(plain, inputs, w)


def test_without_outliers_there_is_little_to_win_and_nothing_to_lose():
    w, x, _ = case()
    x[:, :3] /= 100
    scale = smoothing(x.abs().amax(0), w)
    assert error(product_smooth(x, w, scale), x, w) < 1.3 * error(product_int8(x, w), x, w)


def test_the_ends_of_alpha_by_hand():
    w = torch.tensor([[2.0, 1.0], [4.0, -8.0]])
    largest = torch.tensor([16.0, 2.0])
    assert smoothing(largest, w, alpha=1.0).tolist() == [16.0, 2.0], "all of the inputs' size goes over"
    assert smoothing(largest, w, alpha=0.0).tolist() == [0.25, 0.125], "weights are made even"
    torch.testing.assert_close(smoothing(largest, w), torch.tensor([2.0, 0.5]))


def test_what_does_not_fit_is_refused():
    w, x, _ = case()
    with pytest.raises(BadInput, match="alpha"):
        smoothing(x.abs().amax(0), w, alpha=1.5)
    with pytest.raises(BadInput, match="largest_C"):
        smoothing(torch.ones(3), w)
    with pytest.raises(BadInput, match="scheme"):
        product_int8(x, w, Absmax(bits=8, share=32))
