from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.models.pooling import POOLINGS, pool
from cutaway.nn.context import Context

from .encoders import VALUES, random

LENGTHS = (4, 1, 2)
LOOPS = {
    "mean": lambda column: sum(column) / len(column),
    "cls": lambda column: column[0],
    "max": max,
}


def context(lengths: tuple[int, ...] = LENGTHS) -> Context:
    return Context.of(lengths, causal=False)


@pytest.mark.parametrize("by", LOOPS)
@pytest.mark.parametrize("unit", [True, False])
def test_a_vector_is_what_a_loop_makes_of_each_sequence(by, unit):
    module, x_ND = random(VALUES["pooled"]), torch.randn(7, 16, dtype=torch.float64)
    made_BD = pool(module, x_ND, context(), by, unit=unit)
    for got, rows in zip(made_BD, x_ND.split(LENGTHS), strict=True):
        expected = [LOOPS[by](list(column)) for column in zip(*rows.tolist(), strict=True)]
        length = sum(one * one for one in expected) ** 0.5 if unit else 1.0
        assert got.tolist() == pytest.approx([one / length for one in expected])


@torch.no_grad()
def test_the_pooler_is_the_encoders_own():
    module, x_ND = random(VALUES["pooled"]), torch.randn(7, 16, dtype=torch.float64)
    expected_BD = module.pooled(x_ND, context())
    assert torch.equal(pool(module, x_ND, context(), "pooler", unit=False), expected_BD)
    with pytest.raises(BadInput, match=r"Encoder\.pooler"):
        pool(random(VALUES["trunk"]), x_ND, context(), "pooler")


@pytest.mark.parametrize("by", POOLINGS)
def test_gradients_are_those_of_finite_differences(by):
    module = random(VALUES["pooled"])
    x_ND = torch.randn(7, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x_ND: pool(module, x_ND, context(), by), (x_ND,))


def test_no_sequences_give_no_vectors_and_an_empty_one_is_refused():
    module, x_ND = random(VALUES["pooled"]), torch.randn(7, 16, dtype=torch.float64)
    assert pool(module, x_ND[:0], context(())).shape == (0, 16)
    with pytest.raises(BadInput, match="without tokens"):
        pool(module, x_ND, context((7, 0)))
    with pytest.raises(BadInput, match='no pooling is called "maen"; did you mean "mean"'):
        pool(module, x_ND, context(), "maen")
