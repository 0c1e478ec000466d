from __future__ import annotations

import copy

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.train.fit import fit
from cutaway.train.objectives.causal import Causal
from cutaway.train.precision import Bfloat16, Float16, Full, named


class Overflowing(Float16):
    """As float16 where gradients are too large for it: their sum has no finite length above a certain factor."""

    def __init__(self, most: float, **told):
        super().__init__(**told)
        self.most = most

    def scaled(self, total):
        return super().scaled(total) * (float("inf") if self.factor > self.most else 1.0)


def losses(module, given, precision, rate=0.1):
    optimiser = torch.optim.SGD(module.parameters(), rate)
    return [step.loss for step in fit(module, Causal(), given, optimiser, steps=len(given), precision=precision)]


@pytest.mark.parametrize(("precision", "steps"), [(Bfloat16(), 2**-8), (Float16(factor=64.0), 2**-11)])
def test_half_precision_learns_as_float32_does(decoder, batches, precision, steps):
    given = batches(40)
    full, half = losses(decoder(), given, Full()), losses(decoder(), given, precision)
    assert half != full
    # Losses of about 3.5 from products with rounding steps of `steps`; the curves stay together.
    assert half == pytest.approx(full, rel=4 * steps)


@pytest.mark.parametrize("precision", [Bfloat16, Float16])
def test_weights_and_gradients_stay_in_float32(decoder, batches, precision):
    module = decoder()
    losses(module, batches(1), precision())
    assert {weight.dtype for weight in module.parameters()} == {torch.float32}
    assert {weight.grad.dtype for weight in module.parameters()} == {torch.float32}


def test_the_factor_leaves_no_trace_in_the_step(decoder, batches):
    given = batches(3)
    one, other = decoder(), decoder()
    losses(one, given, Float16(factor=1.0))
    losses(other, given, Float16(factor=2.0**10))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        # A power of two changes no digit, but small numbers vanish without it.
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_float16_alone_is_too_narrow_and_the_factor_mends_it():
    weight = torch.zeros(1, requires_grad=True)
    small = torch.tensor([1e-4], dtype=torch.float16)
    for factor, expected in ((1.0, 0.0), (2.0**12, 1e-8)):
        weight.grad = None
        precision = Float16(factor=factor)
        product = (weight.half() * small * small).sum()  # its gradient, 1e-8, is below float16's 6e-8
        precision.scaled(product.float()).backward()
        assert float(weight.grad / factor) == pytest.approx(expected, rel=1e-2)


def test_a_step_that_overflows_is_left_out_and_halves_the_factor(decoder, batches):
    module, given = decoder(), batches(6)
    before = copy.deepcopy(module.state_dict())
    precision = Overflowing(4.0, factor=16.0, growth=2)
    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    factors, moved = [], []
    for step in fit(module, Causal(), given, optimiser, steps=6, precision=precision):
        factors.append(precision.factor)
        moved.append(any(not torch.equal(one, before[name]) for name, one in module.state_dict().items()))
        before = copy.deepcopy(module.state_dict())
        assert torch.isfinite(torch.tensor(step.loss))
        assert all(torch.isfinite(one).all() for state in optimiser.state.values() for one in state.values())
    assert factors == [8.0, 4.0, 4.0, 8.0, 4.0, 4.0]
    assert moved == [False, False, True, True, False, True]
    assert precision.skipped == 3


def test_its_state_comes_back():
    precision = Float16(factor=8.0, growth=3)
    for norm in (1.0, float("nan"), 1.0, 1.0):
        precision.step(torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1), norm)
    other = Float16(growth=3)
    other.load_state_dict(precision.state_dict())
    assert (other.factor, other.good, other.skipped) == (4.0, 2, 1) == (precision.factor, precision.good, 1)
    Full().load_state_dict(Full().state_dict())


def test_names():
    kinds = [type(named(name)) for name in ("float32", "bfloat16", "float16")]
    assert kinds == [Full, Bfloat16, Float16]
    with pytest.raises(BadInput, match="bfloat16"):
        named("bfloat")
    with pytest.raises(BadInput, match="Float16"):
        Float16(factor=0.0)
