"""The counted values are those that models built from them have."""

from __future__ import annotations

import torch

from cutaway.lab.cards.counts import bert_base, gpt2


def test_counts_are_those_of_the_built_models():
    for spec in (gpt2(), bert_base()):
        with torch.device("meta"):
            module = spec.build()
        assert sum(weight.numel() for weight in module.parameters()) == spec.cost(1, 1).parameters
