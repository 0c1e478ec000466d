from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.blocks.absmax import round_absmax
from cutaway.ops.blocks.scheme import Absmax
from cutaway.ops.calibrated.awq import awq
from cutaway.ops.calibrated.gptq import output_error


def case(outliers: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Weights and inputs, a few columns of which are thirty times as large; and others of the same kind."""
    generator = torch.Generator().manual_seed(0)
    size = torch.ones(64)
    size[:6] = 30.0 if outliers else 1.0
    w = torch.randn(24, 64, generator=generator)
    return w, *(torch.randn(300, 64, generator=generator) * size for _ in range(2))


@pytest.mark.parametrize(
    "scheme", [Absmax(bits=4, share=32), Absmax(bits=4, share=32, symmetric=False), Absmax(bits=4)]
)
def test_it_beats_rounding_to_the_nearest(scheme):
    w, x, fresh = case()
    made, plain = awq(w, x, scheme), round_absmax(w, scheme).numbers()
    assert made.alpha > 0
    for inputs in (x, fresh):
        assert output_error(inputs, w, made.numbers()) < 0.6 * output_error(inputs, w, plain)


def test_dividing_the_inputs_is_what_it_says():
    w, x, _ = case()
    made = awq(w, x, Absmax(bits=4, share=32))
    divided = (x / made.scale_C) @ made.levels.numbers().T
    torch.testing.assert_close(divided, x @ made.numbers().T, rtol=1e-4, atol=1e-2)


def test_it_is_never_worse_where_nothing_stands_out():
    w, x, _ = case(outliers=False)
    scheme = Absmax(bits=4, share=32)
    plain = output_error(x, w, round_absmax(w, scheme).numbers())
    assert output_error(x, w, awq(w, x, scheme).numbers()) <= plain * (1 + 1e-9)
    assert awq(w, x, scheme, grid=1).alpha == 0.0
    assert torch.equal(awq(w, x, scheme, grid=1).levels.numbers(), round_absmax(w, scheme).numbers())


def test_what_does_not_fit_is_refused():
    w, x, _ = case()
    for wrong in (x[:, :3], x[:0]):
        with pytest.raises(BadInput, match="x_NC"):
            awq(w, wrong, Absmax(bits=4))
    with pytest.raises(BadInput, match="not finite"):
        awq(w, x * torch.nan, Absmax(bits=4))
