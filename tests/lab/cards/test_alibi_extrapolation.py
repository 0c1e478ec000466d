"""The text follows its table, and the loss beyond the trained length is told apart by how positions are told."""

from __future__ import annotations

import pytest
import torch

from cutaway.lab.cards import alibi_extrapolation as module
from cutaway.lab.cards.alibi_extrapolation import CARD, VOCAB, grown, text
from cutaway.nn.alibi import Alibi


def test_nine_of_ten_tokens_follow_from_the_two_before():
    ids_BT = text(64, 200, torch.Generator().manual_seed(3))
    table_VV = torch.randint(VOCAB, (VOCAB, VOCAB), generator=torch.Generator().manual_seed(0))
    follows = (table_VV[ids_BT[:, :-2], ids_BT[:, 1:-1]] == ids_BT[:, 2:]).float().mean()
    # A sixteenth of the tenth follows by chance; 12,672 draws deviate by 0.0026.
    assert abs(float(follows) - (0.9 + 0.1 / VOCAB)) < 0.01


def test_two_steps_run_and_give_back_the_generator(monkeypatch):
    monkeypatch.setattr(module, "READ", 80)
    before = torch.get_rng_state()
    within, more = grown(alibi=Alibi(), steps=2)
    assert 2.0 < within < 4.0 and abs(more) < 1.0
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.proof
def test_the_card_holds():
    assert CARD.reproduce().verdict == "holds"
