"""Pooling loses nothing where a group's heads are alike; wrong poolings do, and the card's numbers tell them too."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutaway.lab.card import NoData, Outcome
from cutaway.lab.cards import mqa_from_mha
from cutaway.lab.cards.mqa_from_mha import CARD, HEADS, Text, anew, compared, converted, findings, first, mean, model
from cutaway.lab.data_sets import found
from cutaway.models.decoder import DecoderModel
from cutaway.nn.context import Context

VOCAB, DIM = 11, 32
TEXT = "it was the best of times, it was the worst of times, it was the age of wisdom " * 12


def turned(heads_GhKD):
    """The right numbers read the wrong way round: heads taken for what lies within a head."""
    groups, heads, width, dim = heads_GhKD.shape
    return heads_GhKD.reshape(groups, width, heads, dim).mean(2)


def scattered(heads_GhKD):
    """Groups of heads that stand apart: 0 with 2 and 1 with 3, where 0 goes with 1 and 2 with 3."""
    groups, heads, width, dim = heads_GhKD.shape
    return heads_GhKD.reshape(heads, groups, width, dim).mean(0)


WRONG = {"sum": lambda heads: heads.sum(1), "turned": turned, "scattered": scattered}


def alike(groups: int) -> tuple[DecoderModel, DecoderModel]:
    """A model with so many key-value heads, and the same with each of them written out for every query head."""
    spec = model(VOCAB, DIM, layers=2)
    blocks = tuple(replace(block, mixer=replace(block.mixer, kv_heads=groups)) for block in spec.blocks)
    torch.manual_seed(0)
    few, many = replace(spec, blocks=blocks).build().double(), spec.build().double()
    for weight in few.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    state = {}
    for name, weight in few.state_dict().items():
        if name.endswith(("mixer.key.weight", "mixer.value.weight")):
            weight = weight.unflatten(0, (groups, DIM // HEADS)).repeat_interleave(HEADS // groups, 0).flatten(0, 1)
        state[name] = weight
    many.load_state_dict(state)
    return few, many


def logits(module):
    ids_N = torch.randint(VOCAB, (20,), generator=torch.Generator().manual_seed(1))
    return module(ids_N, Context.of((9, 11)))[0]


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("pool", [mean, first])
def test_of_heads_that_are_alike_nothing_is_lost(groups, pool):
    few, many = alike(groups)
    made = converted(many, groups, pool)
    torch.testing.assert_close(logits(made), logits(many))
    torch.testing.assert_close(logits(made), logits(few))


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_pooling_is_found_out(name):
    few, many = alike(2)
    assert float((logits(converted(many, 2, WRONG[name])) - logits(few)).detach().abs().max()) > 0.01


def test_the_mean_is_that_of_the_heads_one_by_one():
    torch.manual_seed(0)
    module = model(VOCAB, DIM, layers=1).build()
    width = DIM // HEADS
    for groups in (1, 2):
        made = converted(module, groups, mean)
        for part in ("key", "value"):
            old = getattr(module.blocks[0].mixer, part).weight.detach()
            new = getattr(made.blocks[0].mixer, part).weight.detach()
            for group in range(groups):
                heads = range(group * HEADS // groups, (group + 1) * HEADS // groups)
                expected = sum(old[head * width : (head + 1) * width] for head in heads) / len(heads)
                torch.testing.assert_close(new[group * width : (group + 1) * width], expected)
        untouched = made.blocks[0].mixer.query.weight
        assert torch.equal(untouched, module.blocks[0].mixer.query.weight)
        assert untouched is not module.blocks[0].mixer.query.weight, "training one must not move the other"


def test_heads_drawn_anew_are_as_at_the_start():
    heads = anew(torch.full((2, 2, 64, 64), 5.0))
    assert heads.shape == (2, 64, 64)
    assert float(heads.std()) == pytest.approx(0.02, rel=0.05)  # of 8,192 draws: six deviations of a deviation


def test_a_run_repeats_and_draws_nothing_from_the_caller(monkeypatch):
    monkeypatch.setattr(mqa_from_mha, "STEPS", 4)
    monkeypatch.setattr(mqa_from_mha, "FURTHER", 2)
    monkeypatch.setattr(mqa_from_mha, "WARM_UP", 2)
    monkeypatch.setattr(mqa_from_mha, "EVALUATED", 1)
    monkeypatch.setattr(mqa_from_mha, "model", lambda vocab: model(vocab, DIM, layers=1))
    state, text = torch.random.get_rng_state(), Text.of(TEXT * 4)
    losses = compared(text)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert losses == compared(text) != compared(text, seed=1)
    assert list(losses) == ["MHA", "GQA", "mean", "first", "anew"]
    assert all(after < before for before, after in losses.values()), "two steps teach something"


def test_verdicts_follow_the_losses():
    good = {"MHA": (2.1, 2.1), "GQA": (2.5, 2.15), "mean": (3.2, 2.25), "first": (3.6, 2.4), "anew": (3.5, 2.5)}
    assert Outcome(card=CARD, findings=findings(good)).verdict == "holds"
    for name, pair in {"mean": (3.2, 2.42), "first": (3.6, 2.2), "anew": (3.5, 2.3), "GQA": (3.3, 2.15)}.items():
        assert Outcome(card=CARD, findings=findings(good | {name: pair})).verdict == "differs", name


def test_without_the_text_it_is_skipped(monkeypatch, tmp_path):
    monkeypatch.setenv("CUTAWAY_DATA", str(tmp_path))
    assert CARD.reproduce().verdict == "skipped"


@pytest.mark.proof
def test_a_wrong_pooling_does_not_hold():
    try:
        text = found("tinyshakespeare/input.txt").read_text(encoding="utf-8")
    except NoData as missing:
        pytest.skip(str(missing))
    losses = compared(Text.of(text), pool=turned)
    assert Outcome(card=CARD, findings=findings(losses)).verdict == "differs"
