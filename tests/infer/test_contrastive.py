"""Contrastive search against the equation, with a whole pass for every candidate."""

from __future__ import annotations

import math

import pytest
import torch

from cutaway.infer.contrastive import contrastive
from cutaway.infer.decoding import Decoding
from cutaway.infer.rules import ruled

from .tiny import END, following, hidden, prompted, tiny

PROMPT = [3, 1, 4]


def by_hand(language, most, top_k, alpha, ends=()):
    text = list(PROMPT)
    while len(text) - len(PROMPT) < most and not (len(text) > len(PROMPT) and text[-1] in ends):
        logprobs = following(language, text)
        scored = []
        for token in sorted(range(len(logprobs)), key=lambda one: -logprobs[one])[:top_k]:
            states = hidden(language, [*text, token])
            likeness = [float(torch.cosine_similarity(states[-1], before, dim=0)) for before in states[:-1]]
            scored.append(((1 - alpha) * math.exp(logprobs[token]) - alpha * max(likeness), token))
        text.append(max(scored)[1])
    return tuple(text[len(PROMPT) :])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("top_k", "alpha"), [(1, 0.6), (3, 0.0), (3, 0.6), (7, 1.0), (50, 0.3)])
def test_it_follows_the_equation(seed, top_k, alpha):
    language = tiny(seed)
    told = {"top_k": top_k, "alpha": alpha, "most": 8, "ends": frozenset({END})}
    written = contrastive(prompted(language), PROMPT, **told)
    assert written.tokens == by_hand(language, 8, top_k, alpha, {END})
    expected = [following(language, [*PROMPT, *written.tokens[:at]])[one] for at, one in enumerate(written.tokens)]
    assert written.logprobs == pytest.approx(expected) and written.total == pytest.approx(sum(expected))


def test_a_window_goes_with_it():
    language = tiny(1, window=3)
    written = contrastive(prompted(language), PROMPT, top_k=4, alpha=0.5, most=8, ends=frozenset())
    assert written.tokens == by_hand(language, 8, 4, 0.5)


def test_what_a_rule_forbids_is_no_candidate():
    def rule(logprobs_V, written):
        return ruled(logprobs_V, Decoding(no_repeat_ngram=1), [*PROMPT, *written], len(PROMPT), ())

    written = contrastive(prompted(tiny()), PROMPT, top_k=7, alpha=0.6, most=4, ends=frozenset(), rule=rule)
    assert sorted([*PROMPT, *written.tokens]) == list(range(7))
    assert contrastive(prompted(tiny()), PROMPT, top_k=2, alpha=0.6, most=0, ends=frozenset()).tokens == ()
