"""The card counts what runs: a frozen matrix, which needs no gradient, makes the backward pass cheaper."""

from __future__ import annotations

import torch

from cutaway.lab.cards import backward as card
from cutaway.models.decoder import Decoder


def test_a_frozen_model_costs_less_backward(monkeypatch):
    build = Decoder.build

    def frozen(spec):
        module = build(spec)
        for name, weight in module.named_parameters():
            weight.requires_grad_("blocks" not in name)
        return module

    monkeypatch.setattr(Decoder, "build", frozen)
    with torch.random.fork_rng():
        assert card.CARD.reproduce().verdict == "differs"
