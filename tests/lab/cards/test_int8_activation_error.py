"""The card can fail: scales a tenth too wide, and a scale for the whole row, are found out; without the model it is
skipped."""

from __future__ import annotations

import pytest
import torch

from cutaway.lab.card import NoData
from cutaway.lab.cards import int8_activation_error as card
from cutaway.lab.cards.int8_activation_error import one_scale, products
from cutaway.ops.cpu.multiply import times_int8_readable
from cutaway.ops.cpu.pack import Rounded, rounded


@pytest.fixture(autouse=True)
def smaller(monkeypatch):
    monkeypatch.setattr(card, "loss_change", lambda: 0.004)


def verdicts() -> list[bool]:
    return [finding.holds for finding in card.CARD.reproduce().findings]


def test_it_holds():
    assert verdicts() == [True] * 4


def test_wider_steps_are_found_out(monkeypatch):
    def coarse(x_NC, strips):
        """Half as many levels."""
        x = rounded(x_NC)
        halved = Rounded(codes_NG=(x.codes_NG.float() / 2).round().to(torch.int8), scales_NG=2 * x.scales_NG)
        return (halved.codes_NG * halved.scales_NG[..., None]).flatten(1)[:, : x_NC.shape[1]] @ strips.weights().T

    monkeypatch.setattr(card, "times_int8_readable", coarse)
    assert verdicts()[0] is False


def test_a_wrong_product_is_beyond_the_bound(monkeypatch):
    monkeypatch.setattr(card, "times_int8_readable", lambda x, strips: 1.2 * times_int8_readable(x, strips))
    assert verdicts()[:2] == [False, False]


def test_a_loss_that_changes_is_found_out(monkeypatch):
    monkeypatch.setattr(card, "loss_change", lambda: 0.5)
    assert verdicts() == [True, True, True, False]


def test_without_the_model_it_is_skipped(monkeypatch):
    def gone():
        raise NoData("smollm2-135m is not here")

    monkeypatch.setattr(card, "loss_change", gone)
    assert card.CARD.reproduce().verdict == "skipped"


def test_one_scale_costs_nothing_where_all_are_alike():
    """Groups that all have the same largest activation have the scale of the row."""
    x_NC = torch.randn(4, 96, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    x_NC[:, ::32] = 1.0
    assert one_scale(x_NC) == pytest.approx(1.0, rel=1e-3)
    assert products(x_NC)[1] < 1
