"""The law of guessing: the answer is the one without, whoever guesses, whatever the model keeps."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from cutaway.infer.acceptance import Choosing, Proposal
from cutaway.infer.language import Language
from cutaway.infer.proposers import Draft, EarlyExit, PromptLookup
from cutaway.infer.speculate import Speculation, written

from .test_engine import MIXERS, VOCAB, model
from .tiny import following, tiny

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
GUESSERS = ("lookup", "itself", "another", "first blocks", "an oracle that errs")


class Erring:
    """Proposes what the answer is known to be, with a mistake now and then. Its own proposer."""

    cheap = False
    adaptive = False

    def __init__(self, answer: Sequence[int], count: int = 5, seed: int = 0):
        self.answer, self.count, self.draw = list(answer), count, random.Random(seed)

    def begin(self, language: object) -> Erring:
        return self

    def propose(self, seen: Sequence[int], count: int, choosing: Choosing) -> Proposal:
        rest = self.answer[len(seen) :][: self.draw.randint(0, count)]
        return Proposal(tokens=tuple(one if self.draw.random() < 0.8 else 0 for one in rest))


def proposer(name: str, language: Language, answer: Sequence[int]):
    if name == "lookup":
        return PromptLookup(shortest=1, adaptive=False)
    if name == "first blocks":
        return EarlyExit(blocks=1, adaptive=False)
    if name == "an oracle that errs":
        return Erring(answer)
    if name == "another":
        return Draft(language=Language(model(seed=5).double()), adaptive=False)
    return Draft(language=Language(language.module), count=6, adaptive=False)


@pytest.mark.parametrize(
    ("mixer", "name"),
    [*((mixer, GUESSERS[-1]) for mixer in MIXERS), *(("window and full, soft cap", name) for name in GUESSERS[:-1])],
)
def test_answers_are_those_without(mixer, name):
    """In float64, where no two logits tie: all kinds of caches, greedy and drawn with a seed."""
    language = Language(model(*MIXERS[mixer]).double())
    for told in ({}, {"temperature": 1.2, "top_p": 0.9, "repetition_penalty": 1.3, "seed": 3}):
        plain = language.generate(PROMPT, max_tokens=24, **told)
        guess = proposer(name, language, [*PROMPT, *plain.tokens])
        helped = language.generate(PROMPT, max_tokens=24, proposer=guess, **told)
        assert helped.tokens == plain.tokens and helped.finish_reason == plain.finish_reason
        # Several tokens in a pass are summed in another order.
        assert helped.logprobs == pytest.approx(plain.logprobs, rel=1e-9, abs=1e-9)
        assert helped.speculated is not None and helped.speculated.proposed > 0
        if name == "itself" and not told:
            assert helped.speculated.rate == 1.0
        if name == GUESSERS[-1]:
            assert helped.speculated.accepted > 3


def test_who_is_always_right_gives_a_token_more_a_pass():
    language = Language(model().double())
    answer = language.generate(PROMPT, max_tokens=29, proposer=Draft(language=language, count=3, adaptive=False))
    told = answer.speculated
    # One behind the prompt's pass, four by each pass behind it.
    assert told is not None and (told.passes, told.guesses, told.per_pass, told.expected) == (7, (3,) * 7, 4.0, 4.0)


@pytest.mark.parametrize("left", [1, 2, 3, 7])
def test_an_answer_ends_at_its_length_and_at_the_contexts(left):
    language = Language(model().double())
    whole = Draft(language=language, count=5, adaptive=False)
    assert len(language.generate(PROMPT, max_tokens=left, proposer=whole).tokens) == left
    long = [3] * (language.spec.length - left + 1)
    plain = language.generate(long, max_tokens=50)
    assert language.generate(long, max_tokens=50, proposer=whole).tokens == plain.tokens and len(plain.tokens) == left


@pytest.mark.parametrize("mixer", ["window", "native sparse", "a state", "sinks"])
def test_who_stops_amid_a_proposal_can_go_on(mixer):
    """The cache holds guesses nobody took; a new prompt finds its way."""
    language = Language(model(*MIXERS[mixer]).double())
    held, whole = language.continuation(), Draft(language=language, count=6, adaptive=False)
    pieces = language.stream(PROMPT, held=held, proposer=whole, max_tokens=30)
    begun = [next(pieces).token for _ in range(4)]
    pieces.close()
    text = [*PROMPT, *begun[:2], 7]
    assert language.generate(text, held=held, max_tokens=9).tokens == language.generate(text, max_tokens=9).tokens


def test_drawn_answers_are_distributed_as_without():
    """Chi-square of the third token, which a draft's proposal, a refusal or a pass of its own may bring."""
    language, draft, count = tiny(0), tiny(3), 250
    plan = Draft(language=draft, count=2, adaptive=False)
    exact = [0.0] * len(following(language, [1]))
    for first, p in enumerate(torch.tensor(following(language, [1, 2])).exp().tolist()):
        for second, q in enumerate(torch.tensor(following(language, [1, 2, first])).exp().tolist()):
            for third, r in enumerate(torch.tensor(following(language, [1, 2, first, second])).exp().tolist()):
                exact[third] += p * q * r
    from cutaway.infer.decoding import Decoding

    draw, found = random.Random(0), Counter()
    for _ in range(count):
        how = Choosing(decoding=Decoding(temperature=1.0), draw=draw, prompt=2)
        told = Speculation.of(plan, language)
        tokens = written(language.continuation(), [1, 2], how, limit=3, sound=lambda x: None, speculation=told)
        found[[token for token, _ in tokens][-1]] += 1
    square = sum((found[one] - count * p) ** 2 / (count * p) for one, p in enumerate(exact))
    # Six degrees of freedom: mean 6, variance 12; five deviations, for one fixed seed.
    assert square < 6 + 5 * 12**0.5, square


def test_an_end_amid_a_proposal_ends_the_answer():
    for seed in range(9):
        language = tiny(seed)
        plain = language.generate([1, 2], max_tokens=20)
        cut = max(plain.tokens.index(token) for token in set(plain.tokens)) + 1  # behind the last new one
        if 3 < cut < 15:
            break

    class Ends:
        eos_ids = frozenset({plain.tokens[cut - 1]})

        def detokenizer(self):
            return self

        def push(self, token: int) -> str:
            return str(token)

        def flush(self) -> str:
            return ""

    language.tokenizer = Ends()  # type: ignore[assignment]
    ended = language.generate([1, 2], max_tokens=20, proposer=Draft(language=language, count=6, adaptive=False))
    assert ended.tokens == plain.tokens[:cut] and ended.finish_reason == "stop" and 3 < cut < 15
    assert ended.text == "".join(map(str, plain.tokens[: cut - 1]))


def test_a_sampler_of_ones_own_is_asked_for_every_token():
    class Second:
        def __call__(self, logits_V, decoding, draw, seen):
            return int(logits_V.topk(2).indices[1])

    language = Language(model().double(), sampler=Second())
    plain = language.generate(PROMPT, max_tokens=20, temperature=1.0)
    guess = PromptLookup(shortest=1, adaptive=False)
    assert language.generate(PROMPT, max_tokens=20, temperature=1.0, proposer=guess).tokens == plain.tokens


def test_nobody_is_left_in_inference_mode():
    for _ in tiny().stream([1], max_tokens=3, proposer=PromptLookup()):
        assert not torch.is_inference_mode_enabled()


def test_guesses_that_do_not_pay_are_left(monkeypatch):
    """A clock on which a pass takes as long as it has tokens: nothing is ever won."""
    now = [0.0]
    language = Language(model().double())
    inner = language.module.forward

    def slow(ids_N, context, rows_X=None):
        now[0] += float(ids_N.shape[0])
        return inner(ids_N, context, rows_X)

    monkeypatch.setattr("cutaway.infer.speculate.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(language.module, "forward", slow)
    lookup = PromptLookup(shortest=1)
    told = language.generate(PROMPT, max_tokens=45, proposer=lookup).speculated
    fixed = language.generate(PROMPT, max_tokens=45, proposer=replace(lookup, adaptive=False)).speculated
    assert told is not None and fixed is not None and told.proposed <= 4 < 30 < fixed.proposed
    assert max(PROMPT) < VOCAB
