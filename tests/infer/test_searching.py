"""What `Language.search` gives back, and what it refuses."""

from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.infer.searches import BeamSearch, BestOf, ContrastiveSearch

from .tiny import tiny

PROMPT = [3, 1, 4]


@pytest.mark.parametrize("how", [BeamSearch(width=1), ContrastiveSearch(top_k=1), ContrastiveSearch(alpha=0.0)])
def test_at_its_narrowest_every_search_is_greedy(how):
    language = tiny()
    greedy = language.generate(PROMPT, max_tokens=6)
    (answer,) = language.search(PROMPT, how, max_tokens=6)
    assert answer.tokens == greedy.tokens and answer.logprobs == pytest.approx(greedy.logprobs)
    assert answer.finish_reason == "length" and answer.text == ""


def test_best_of_draws_from_seeds_in_turn_and_puts_the_likeliest_first():
    language = tiny()
    answers = language.search(PROMPT, BestOf(count=5), max_tokens=6, temperature=1.5, seed=10)
    drawn = [language.generate(PROMPT, max_tokens=6, temperature=1.5, seed=seed).tokens for seed in range(10, 15)]
    assert sorted(answer.tokens for answer in answers) == sorted(drawn)
    means = [sum(answer.logprobs) / len(answer.logprobs) for answer in answers]
    assert means == sorted(means, reverse=True) and len(set(means)) > 1


def test_an_answer_ends_where_the_context_does():
    (answer,) = tiny().search(list(range(7)) * 4, BeamSearch(width=1), max_tokens=100)  # 28 of 32
    assert len(answer.tokens) == 5


@pytest.mark.parametrize(
    ("how", "options", "field"),
    [
        (BeamSearch(), {"temperature": 1.0}, "temperature"),
        (ContrastiveSearch(), {"top_p": 0.5}, "top_p"),
        (BestOf(count=2), {}, "temperature"),
        (BeamSearch(), {"lenght": 1}, "lenght"),
    ],
)
def test_an_option_without_a_use_is_refused(how, options, field):
    with pytest.raises(BadInput) as caught:
        tiny().search(PROMPT, how, **options)
    assert caught.value.field == field


@pytest.mark.parametrize("how", [BeamSearch(width=3), BeamSearch(width=4, groups=2), ContrastiveSearch()])
def test_rules_hold_in_searches(how):
    for answer in tiny().search(PROMPT, how, max_tokens=4, no_repeat_ngram=1, forced=(6,)):
        assert answer.tokens[0] == 6 and sorted([*PROMPT, *answer.tokens]) == list(range(7))
