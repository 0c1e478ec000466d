"""The card can fail, says where bytes come from, and is skipped where nothing is compiled."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutaway.lab.bound import Bound
from cutaway.lab.cards import int4_roofline as card
from cutaway.lab.cards.int4_roofline import SPEC, Drawn, measured
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.feedforward import Gated
from cutaway.nn.positions import Rope
from cutaway.ops.cpu.build import Kernels
from cutaway.ops.cpu.steps.library import steps
from cutaway.weights.assemble import assemble

MIXER = GroupedQuery(heads=4, kv_heads=2, head_dim=32, rope=Rope(width=32))
SMALL = replace(
    SPEC, vocab=256, dim=128, blocks=(replace(SPEC.blocks[0], mixer=MIXER, feed=Gated(hidden=256)),) * 2, length=256
)
FAST = Bound(weights=240_000_000, cache=0, bandwidth=20e9, seconds=0.015, products=0.015)


def outcome(monkeypatch, bound: Bound, beyond: float = 20e9):
    monkeypatch.setattr(card, "measured", lambda spec: (bound, beyond, round(bound.weights * 8 / 4.5)))
    return card.CARD.reproduce()


def test_what_is_below_the_bound_and_not_far_holds(monkeypatch):
    found = outcome(monkeypatch, FAST)
    assert found.verdict == "holds" and "from memory" in found.findings[1].what
    assert "from cache" in outcome(monkeypatch, FAST, beyond=10e9).findings[1].what


@pytest.mark.parametrize(("seconds", "holds"), [(0.010, [True, False, True]), (0.050, [True, True, False])])
def test_above_the_bound_or_far_below_it_differs(monkeypatch, seconds, holds):
    assert [one.holds for one in outcome(monkeypatch, replace(FAST, seconds=seconds)).findings] == holds


def test_without_kernels_it_is_skipped(monkeypatch):
    monkeypatch.setattr(card, "steps", lambda: Kernels(why="no C++ compiler is here"))
    found = card.CARD.reproduce()
    assert found.verdict == "skipped" and "no C++ compiler" in str(found.missing)


def test_a_small_decoder_is_measured():
    if steps().library is None:
        pytest.skip(f"no kernels here: {steps().why}")
    bound, beyond, parameters = measured(SMALL, beyond=1 << 20)
    norms = 5 * 128 * 4  # in fp32
    assert bound.weights == (parameters - 5 * 128) * 18 // 32 + norms
    assert bound.seconds > 0 and beyond > 0 and bound.cache == 2 * 2 * 2 * 32 * 2 * card.PROMPT


def test_random_rows_have_length_one():
    """So that a decoder of them says something finite."""
    module = assemble(SMALL, Drawn(), torch.float32, "cpu")
    packed = module.blocks[0].feed.down.packed
    from cutaway.ops.blocks.dequantise import dequantise

    w_RC = dequantise(packed.blocks, packed.format)
    assert float(w_RC.norm(dim=1).mean()) == pytest.approx(1.0, rel=0.03)
