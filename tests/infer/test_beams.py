from __future__ import annotations

import itertools
import math
import random

import pytest

from cutaway.infer.beams import Beam, Beams

END = 0


def model(seed: int, vocab: int = 4):
    """Logprobs of what follows a beginning: random, and the same at every call."""

    def follow(tokens: tuple[int, ...]) -> list[float]:
        draw = random.Random(f"{seed} {tokens}")
        weights = [math.exp(draw.gauss(0, 1.5)) for _ in range(vocab)]
        return [math.log(weight / sum(weights)) for weight in weights]

    return follow


def search(follow, **told) -> Beams:
    beams = Beams(**({"width": 3, "ends": frozenset({END}), "most": 5, "penalty": 1.0, "early": False} | told))
    while not beams.done:
        found = [
            beam.then(token, logprob, beam.total + logprob, row)
            for row, beam in enumerate(beams.running)
            for token, logprob in enumerate(follow(beam.tokens))
        ]
        beams.extend(sorted(found, key=lambda beam: -beam.total)[: beams.looked_at])
    return beams


def best_of_all(follow, most: int, penalty: float, vocab: int = 4) -> tuple[tuple[int, ...], float]:
    """By looking at every target that there is."""
    whole = [
        (*inner, END) for length in range(most) for inner in itertools.product(range(1, vocab), repeat=length)
    ] + list(itertools.product(range(1, vocab), repeat=most))
    scored = []
    for tokens in whole:
        total = sum(follow(tokens[:place])[token] for place, token in enumerate(tokens))
        scored.append((total / len(tokens) ** penalty, tokens))
    score, tokens = max(scored)
    return tokens, score


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("seed", range(5))
def test_wide_enough_it_finds_the_best_target_there_is(seed, penalty):
    """400 beginnings of at most 3^4 that do not end: nothing is ever left out."""
    follow = model(seed)
    tokens, score = best_of_all(follow, 5, penalty)
    found = search(follow, width=400, penalty=penalty, early="never")
    assert found.best.tokens == tokens
    assert found.found[0][0] == pytest.approx(score)


def test_a_narrow_search_beats_greedy_where_the_first_step_misleads():
    def follow(tokens):
        table = {(): [0.01, 0.5, 0.49], (1,): [0.34, 0.33, 0.33], (2,): [0.98, 0.01, 0.01]}
        return [math.log(one) for one in table.get(tokens, [0.98, 0.01, 0.01])]

    assert search(follow, width=2, most=3).best.tokens == (2, END)
    assert search(follow, width=1, most=3, early=True).best.tokens[0] == 1


def test_length_is_what_the_penalty_says():
    follow = {(): [0.4, 0.6], (1,): [0.3, 0.7], (1, 1): [0.9, 0.1]}

    def logs(tokens):
        return [math.log(one) for one in follow.get(tokens, [0.99, 0.01])]

    assert search(logs, width=2, penalty=0.0).best.tokens == (END,)
    assert search(logs, width=2, penalty=2.0).best.tokens == (1, 1, END)
    assert search(logs, width=2, penalty=0.0).found[0][0] == pytest.approx(math.log(0.4))


@pytest.mark.parametrize("seed", range(8))
def test_rules_of_stopping_differ_in_time_and_the_latest_is_never_worse(seed):
    follow = model(seed)
    found = {early: search(follow, early=early, penalty=1.5, most=8) for early in (True, False, "never")}
    scores = {early: one.found[0][0] for early, one in found.items()}
    assert scores["never"] >= scores[False] >= scores[True] - 1e-12


def test_where_longer_is_better_only_never_waits_for_it():
    """An end at once has probability 0.51; what begins otherwise is 0.49 and then certain, at length 5."""

    def follow(tokens):
        return [math.log(one) for one in ((0.51, 0.49) if not tokens else (1e-9, 1 - 1e-9))]

    found = {early: search(follow, width=1, penalty=2.0, early=early).best.tokens for early in (False, True, "never")}
    assert found == {False: (END,), True: (END,), "never": (1, 1, 1, 1, 1)}
    assert search(follow, width=1, penalty=0.0, early="never").best.tokens == (END,)


def test_a_target_ends_at_its_greatest_length_or_with_any_of_its_ends():
    for ends in (frozenset({END}), frozenset({0, 1}), frozenset()):
        for most in (1, 2, 4):
            for score, beam in search(model(3), ends=ends, most=most).found:
                assert len(beam.tokens) == most or beam.tokens[-1] in ends
                assert not set(beam.tokens[:-1]) & ends
                assert score == pytest.approx(sum(beam.logprobs) / len(beam.tokens))


def test_no_tokens_asked_for_none_looked_at():
    beams = Beams(width=2, ends=frozenset(), most=0, penalty=1.0, early=False)
    assert beams.done and beams.best == Beam()


def test_few_continuations_are_enough():
    """A vocabulary smaller than what is looked at."""
    assert search(model(1, vocab=2), width=4).best.tokens
    assert Beams(width=4, ends=frozenset({1, 2}), most=5, penalty=1.0, early=False).looked_at == 12
