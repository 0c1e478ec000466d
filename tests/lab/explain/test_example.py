from __future__ import annotations

from cutaway.lab.explain.example import SMOLLM2
from cutaway.weights.shelf import SMOLLM2_135M


def test_the_value_is_that_model():
    assert SMOLLM2.cost(1, 1).parameters == SMOLLM2_135M.parameters == 134_515_008
    assert SMOLLM2.length == SMOLLM2_135M.context
    assert (SMOLLM2.vocab, SMOLLM2.dim, len(SMOLLM2.blocks)) == (49_152, 576, 30)
