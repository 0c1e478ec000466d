"""A linear map's two forms, and a module that runs on the one it is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutaway.nn.context import Context
from cutaway.nn.linear import Linear
from cutaway.ops.forms import FAST
from cutaway.ops.linear import linear_fast, linear_readable


@pytest.mark.parametrize("shape", [(5,), (2, 3, 5), (0, 5)], ids=["one row", "many axes", "none"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_both_forms_are_the_equation(shape, bias):
    x, weight_RC = torch.randn(shape).double(), torch.randn(7, 5).double()
    bias_R = torch.randn(7).double() if bias else None
    expected = torch.einsum("...c,rc->...r", x, weight_RC) + (0.0 if bias_R is None else bias_R)
    for form in (linear_readable, linear_fast):
        torch.testing.assert_close(form(x, weight_RC, bias_R), expected)


def test_a_module_runs_on_the_form_that_its_pass_is_told():
    module, told = Linear(5, 7, bias=True), []

    def mine(x_NC, weight_RC, bias_R=None):
        told.append((x_NC, weight_RC, bias_R))
        return x_NC.new_ones(3, 7)

    x_NC = torch.randn(3, 5)
    y_NR = module(x_NC, Context.of((3,), forms=replace(FAST, linear=mine)))
    assert torch.equal(y_NR, torch.ones(3, 7))
    ((x, weight, bias),) = told
    assert x is x_NC and weight is module.weight and bias is module.bias
