from __future__ import annotations

import numpy as np
import pytest
import torch

from cutaway.lab.checks.parity import compare, compare_rounded, expect, expect_close, random


def cube_oracle(x, y, *, power=3):
    return x**power * y


def cube(x, y, *, power=3):
    return x**power * y


INPUTS = {"x": random(2, 3, seed=1), "y": random(2, 3, seed=2)}


def test_equal_functions_pass_with_their_gradients():
    compare(cube, cube_oracle, INPUTS)
    compare(cube, cube_oracle, INPUTS, power=2)


def test_a_wrong_value_is_named_by_its_index_and_both_numbers():
    def wrong(x, y):
        z = (x**3 * y).clone()
        z[1, 2] = z[1, 2] + 1.0
        return z

    right = float(cube_oracle(*INPUTS.values())[1, 2])
    with pytest.raises(AssertionError, match=rf"output\[1, 2\]: got {right + 1:.6f}\d*, expected {right:.6f}.*1 of 6"):
        compare(wrong, cube_oracle, INPUTS)


def test_a_wrong_gradient_is_named_by_its_input_and_index():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            return x**3 * y

        @staticmethod
        def backward(ctx, gradient):
            x, y = ctx.saved_tensors
            slope = x**3 * gradient
            slope[0, 1] *= 1.001
            return 3 * x**2 * y * gradient, slope

    with pytest.raises(AssertionError, match=r"gradient of y\[0, 1\]"):
        compare(Wrong.apply, cube_oracle, INPUTS)
    compare(Wrong.apply, cube_oracle, INPUTS, gradient=None)


def test_a_gradient_that_is_cut_off_is_found():
    with pytest.raises(AssertionError, match="gradient of y"):
        compare(lambda x, y: x**3 * y.detach(), cube_oracle, INPUTS)
    with pytest.raises(AssertionError, match="no gradient for x, y"):
        compare(lambda x, y: (x**3 * y).detach(), cube_oracle, INPUTS)


def test_an_input_that_does_not_matter_has_gradient_zero():
    compare(lambda x, y: x * 2, lambda x, y: x * 2, INPUTS)


def test_an_overwritten_input_is_found():
    with pytest.raises(AssertionError, match="input x after the call"):
        compare_rounded(lambda x, y: x.mul_(y), lambda x, y: x * y, INPUTS, torch.float32)


def test_dtype_and_shape_have_to_stay():
    with pytest.raises(AssertionError, match=r"torch\.bfloat16 inputs gave torch\.float32"):
        compare_rounded(lambda x, y: (x * y).float(), lambda x, y: x * y, INPUTS, torch.bfloat16)
    with pytest.raises(AssertionError, match="float64 inputs gave"):
        compare(lambda x, y: (x * y).float(), lambda x, y: x * y, INPUTS)
    with pytest.raises(AssertionError, match="shape"):
        compare(lambda x, y: (x * y)[0], lambda x, y: x * y, INPUTS)


def test_integers_and_none_pass_through_and_are_not_differentiated():
    inputs = {"x": random(4, seed=3), "index": torch.tensor([2, 0]), "nothing": None}
    compare(lambda x, index, nothing: x[index], lambda x, index, nothing: x[index], inputs)


def test_nan_and_infinity_agree_only_with_themselves():
    expect_close("same", torch.tensor([torch.nan, torch.inf, 1.0]), np.array([np.nan, np.inf, 1.0]), 1e-9)
    for got, expected in (
        ([torch.nan], [1.0]),
        ([1.0], [torch.nan]),
        ([torch.inf], [-torch.inf]),
        ([torch.inf], [1.0]),
    ):
        with pytest.raises(AssertionError, match=r"what\[0\]"):
            expect_close("what", torch.tensor(got), torch.tensor(expected), 1e-3)


def test_the_worst_place_is_named():
    with pytest.raises(AssertionError, match=r"what\[2\].*2 of 3 differ"):
        expect_close("what", torch.tensor([1.1, 0.0, 3.0]), torch.tensor([1.0, 0.0, 1.0]), 1e-3)


def test_numbers_above_one_are_compared_relatively():
    expect_close("big", torch.tensor([1e6 + 0.5], dtype=torch.float64), torch.tensor([1e6]), 1e-6)
    with pytest.raises(AssertionError):
        expect_close("big", torch.tensor([1e6 + 2.0], dtype=torch.float64), torch.tensor([1e6]), 1e-6)


def test_expect_raises_its_message():
    expect(True, "never seen")
    with pytest.raises(AssertionError, match="told so"):
        expect(False, "told so")
