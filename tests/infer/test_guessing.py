"""The engine's law under guesses: requests together, several tokens of each in a step, are each as alone without."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.infer.acceptance import Choosing, Proposal
from cutaway.infer.decoding import Decoding
from cutaway.infer.engine import Engine
from cutaway.infer.guessing import Guessing, Shared
from cutaway.infer.language import Language
from cutaway.infer.proposers import Draft, EarlyExit, PromptLookup
from cutaway.infer.request import Request
from cutaway.infer.scheduler import Limits
from cutaway.infer.thrift import Costs
from cutaway.models.decoder import DecoderModel

from .test_engine import LIMITS, MIXERS, VOCAB, law, model, requests

KEEPING = [name for name in MIXERS if "state" not in name]
WIDE = replace(LIMITS, budget=31)  # room for guesses beside five sequences


class Erring:
    """The model itself, which is wrong now and then."""

    count, adaptive = 4, False

    def __init__(self) -> None:
        self.draw = random.Random(0)

    def begin(self, language) -> ErringDraft:
        return ErringDraft(Draft(language=language).begin(language), self.draw)


class ErringDraft:
    cheap = False

    def __init__(self, inner, draw: random.Random):
        self.inner, self.draw = inner, draw

    def propose(self, seen, count: int, choosing: Choosing) -> Proposal:
        assert choosing.certain
        told = self.inner.propose(seen, count, choosing).tokens
        return Proposal(tokens=tuple(one if self.draw.random() < 0.7 else self.draw.randrange(VOCAB) for one in told))


def guessing(module: DecoderModel, proposer=None) -> Guessing:
    return Guessing(proposer or Erring(), Language(module))


@pytest.mark.parametrize("name", KEEPING)
def test_requests_together_are_each_as_alone(name):
    module = model(*MIXERS[name])
    guesses = guessing(module)
    sequences = law(module, requests(5, 1), 1, WIDE, guessing=guesses)
    # Drawn with a temperature, a guess at the likeliest token is often wrong: both happen.
    kept = [(thrift.shares[0].kept, thrift.shares[0].seen) for _, thrift, _ in guesses._each.values()]
    assert sequences and any(right > 1.5 for right, _ in kept) and any(right < seen - 0.5 for right, seen in kept)


@pytest.mark.parametrize("name", ["full", "window and full, soft cap", "native sparse"])
def test_those_who_were_preempted_go_on_as_if_nothing_had_been(name):
    limits = Limits(tokens=24, sequences=7, budget=25, page=4, slack=0)
    module = model(*MIXERS[name])
    sequences = law(module, requests(9, 3, most=8), 3, limits, guessing=guessing(module))
    assert any(one.preemptions for one in sequences), "nobody was preempted"


@pytest.mark.parametrize("proposer", [PromptLookup(shortest=1, adaptive=False), EarlyExit(blocks=1), PromptLookup()])
def test_all_proposers_serve(proposer):
    module = model()
    law(module, requests(4, 6), 6, WIDE, guessing=guessing(module, proposer))


@pytest.mark.proof
def test_hundreds_of_requests_together_are_each_as_alone():
    draw = random.Random(11)
    for turn, name in enumerate(KEEPING):
        limits = Limits(
            tokens=draw.choice((48, 96)),
            sequences=8,
            budget=draw.choice((24, 40)),
            page=draw.choice((2, 4, 5)),
            slack=0,
        )
        module = model(*MIXERS[name])
        law(module, requests(40, turn), turn, limits, guessing=guessing(module))


def test_guesses_save_steps():
    module, request = model(), Request(prompt=(1, 2, 3), decoding=Decoding(max_tokens=21))
    right = Draft(language=Language(module), count=4, adaptive=False)
    engine = Engine(module, limits=WIDE, deterministic=True, guessing=guessing(module, right))
    engine.answer([request])
    # The prompt's step brings one token, four guesses and one more come with each of the others.
    assert engine.scheduler.counts.steps == 5
    assert (engine.scheduler.counts.proposed, engine.scheduler.counts.accepted) == (16, 16)


def test_what_came_of_guesses_is_told_for_each_sequence():
    """A draft that is a copy is always right; one that says a token nobody writes, never."""
    module, asked = model(), [Request(prompt=(1, 2, at), decoding=Decoding(max_tokens=21)) for at in range(3)]
    right = Draft(language=Language(module), count=4, adaptive=False)
    engine = Engine(module, limits=WIDE, deterministic=True, guessing=guessing(module, right))
    for one in engine.answer(asked):
        told = engine.guessing.told(one)
        assert (told.proposed, told.accepted, told.judged, sum(told.guesses) + told.passes) == (16, 16, 16, 20)
        assert told.rate == 1.0 and told.expected == told.per_pass == 5.0
    wrong = model()
    with torch.no_grad():
        wrong.norm.weight.mul_(-1.0)  # the likeliest becomes the least likely
    engine = Engine(module, limits=WIDE, guessing=guessing(module, Draft(language=Language(wrong), adaptive=False)))
    for one in engine.answer(asked):
        told = engine.guessing.told(one)
        assert (
            told.accepted == 0 and told.judged == sum(1 for guesses in told.guesses if guesses) and told.per_pass == 1
        )
        assert told.passes == 20 and told.expected == 1.0


def test_guesses_leave_room_for_prompts_and_for_each_other():
    """However many are offered: no running sequence misses its token, and a prompt goes on being read."""
    module = model()
    engine = Engine(module, limits=LIMITS, guessing=guessing(module))
    running = [engine.submit(Request(prompt=(1, 2, at), decoding=Decoding(max_tokens=30))) for at in range(4)]
    engine.step()
    long = engine.submit(Request(prompt=tuple(range(20)), decoding=Decoding(max_tokens=1)))
    for _ in range(6):
        before = [len(one.tokens) for one in running]
        engine.step()
        engine.check()
        assert all(
            len(one.tokens) > was or one.state != "running" or one.preemptions
            for one, was in zip(running, before, strict=True)
        )
    assert long.answer


def test_a_state_is_refused():
    module = model(*MIXERS["a state"])
    with pytest.raises(BadInput, match="proposer"):
        Engine(module, limits=LIMITS, guessing=guessing(module))


def test_a_proposer_that_does_not_fit_is_refused_at_once():
    with pytest.raises(BadInput, match="blocks"):
        guessing(model(), EarlyExit(blocks=9))


def test_a_failed_answer_ends_amid_its_guesses():
    """Logits that are no numbers, behind the second guess of a step."""
    module = model()
    plain = Engine(module, limits=LIMITS).answer([Request(prompt=(1, 2), decoding=Decoding(max_tokens=8))])[0]
    right = Draft(language=Language(model()), count=4, adaptive=False)  # a copy, which stays sound
    engine = Engine(module, limits=WIDE, guessing=guessing(module, right))
    one = engine.submit(Request(prompt=(1, 2), decoding=Decoding(max_tokens=8)))
    engine.step()
    forward = module.forward

    def broken(ids_N, context, rows_X=None):
        logits_XV, report = forward(ids_N, context, rows_X)
        return logits_XV.index_fill(0, torch.tensor([2]), float("nan")), report

    module.forward = broken  # type: ignore[method-assign]
    written = engine.step()
    engine.check()
    assert [each.token for each in written] == [*plain.answer[1:3], None] and one.reason == "failed"
    assert engine.idle and all(pool.held == 0 for pool in engine.scheduler.tables.pools)


def test_what_a_sequence_pays_is_its_share_of_a_step():
    costs = Costs()
    for tokens, seconds in ((4, 2.0), (8, 2.8)):
        costs.saw(tokens, seconds)
    shared = Shared(costs)
    shared.running = 4
    assert shared.known(1) and shared.seconds(1) == 0.5 and shared.seconds(5) == pytest.approx(0.5 + 0.8)
    assert not Shared(Costs()).known(1)
