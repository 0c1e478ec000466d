"""Decisions by costs that are told, not measured."""

from __future__ import annotations

import random

from cutaway.infer.acceptance import Proposal
from cutaway.infer.thrift import AGAIN, LONGEST, Costs, Share, Thrift


def proposal(count: int, kind: int = 0) -> Proposal:
    return Proposal(tokens=(0,) * count, kind=kind)


def run(thrift: Thrift, rate: float, *, slope: float, tokens: int = 400, guess: float = 0.0, seed: int = 0) -> float:
    """Seconds of so many tokens against those without guesses, where each guess is right with that probability."""
    draw, written, spent = random.Random(seed), 0, 0.0
    while written < tokens:
        count = thrift.ask()
        tried = thrift.use(proposal(count)) if count else Proposal()
        guesses, kept = len(tried.tokens), 0
        while kept < guesses and draw.random() < rate:
            kept += 1
        guessing = guess * (count if not thrift.cheap else 0)
        spent += 1.0 + slope * guesses + guessing
        thrift.saw(tried, kept, tokens=guesses + 1, seconds=1.0 + slope * guesses, guessing=guessing)
        for _ in range(kept + 1):
            thrift.wrote(0 if draw.random() < rate else -1)
        written += kept + 1
    return written / spent


def test_guesses_that_are_right_pay():
    assert run(Thrift(10, cheap=True), 0.95, slope=0.15) > 2.5
    assert run(Thrift(10, cheap=False), 0.9, slope=0.15, guess=0.1) > 1.8


def test_guesses_that_are_wrong_cost_next_to_nothing():
    for rate in (0.0, 0.1):
        assert run(Thrift(10, cheap=True), rate, slope=0.3) > 0.97
        assert run(Thrift(10, cheap=False), rate, slope=0.3, guess=0.5) > 0.9


def test_a_pass_that_grows_as_fast_as_its_tokens_never_pays():
    assert run(Thrift(10, cheap=True), 0.9, slope=1.0) > 0.97


def test_a_guesser_that_is_better_later_is_found_out():
    for cheap in (True, False):
        thrift = Thrift(8, cheap=cheap)
        run(thrift, 0.0, slope=0.2, guess=0.1)
        run(thrift, 1.0, slope=0.2, guess=0.1)
        assert thrift._best(0, 8) == 8


def test_kinds_are_trusted_each_for_itself():
    thrift = Thrift(8, cheap=True)
    thrift.saw(Proposal(), 0, tokens=1, seconds=1.0, guessing=0.0)
    for _ in range(20):
        thrift.saw(proposal(4, kind=2), 0, tokens=5, seconds=1.4, guessing=0.0)
        thrift.saw(proposal(4, kind=4), 4, tokens=5, seconds=1.4, guessing=0.0)
    assert not thrift.use(proposal(8, kind=2)).tokens and len(thrift.use(proposal(8, kind=4)).tokens) == 8


def test_one_token_alone_is_measured_first_and_again():
    thrift = Thrift(4, cheap=True)
    assert thrift.ask() == 0
    thrift.saw(Proposal(), 0, tokens=1, seconds=1.0, guessing=0.0)
    asked = []
    for _ in range(AGAIN + 1):
        asked.append(thrift.ask())
        thrift.saw(proposal(4), 4, tokens=5, seconds=1.1, guessing=0.0)
    assert asked == [4] * AGAIN + [0]


def test_without_adapting_it_always_guesses():
    thrift = Thrift(5, cheap=False, adaptive=False)
    for _ in range(20):
        assert thrift.ask() == 5 and len(thrift.use(proposal(5)).tokens) == 5
        thrift.saw(proposal(5), 0, tokens=6, seconds=9.0, guessing=9.0)


def test_rests_grow_to_a_bound():
    thrift = Thrift(4, cheap=False)
    run(thrift, 0.0, slope=0.5, tokens=3000, guess=0.5)
    assert thrift._rest == LONGEST


def test_costs_lie_on_lines():
    costs = Costs()
    costs.saw(1, 1.0)
    costs.saw(1, 1.5)  # somebody else was at work
    assert costs.seconds(1) == 1.0 and costs.seconds(3) == 1.3
    costs.saw(5, 2.0)
    assert costs.seconds(3) == 1.5 and costs.seconds(9) == 3.0


def test_a_share_forgets():
    share = Share()
    share.saw(3, True)
    assert 0.5 < share.value < 0.75
    share.saw(60, False)
    assert share.value > 0.99
