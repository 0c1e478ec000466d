"""What is shown is what is done."""

from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.infer.searches import BeamSearch, ContrastiveSearch
from cutaway.lab.decoding_ways import NAMES, Way

PROMPT = [3, 1, 4]


def taken(steps) -> list[int]:
    return [next(one for one in step if one.taken).ids[0] for step in steps]


@pytest.mark.parametrize(
    "text", ["greedy", "sample:1.3", "top-k:5", "top-p:0.7", "min-p:0.2", "typical:0.5", "eta:0.1"]
)
def test_a_drawn_way_takes_what_generate_takes(language, text):
    way = Way.of(text)
    steps = list(way.steps(language, PROMPT, 6, seed=3))
    options = vars(way.decoding(3)) | {"max_tokens": 6}
    assert taken(steps) == list(language.generate(PROMPT, **options).tokens)
    for step in steps:
        assert sum(one.number for one in step) == pytest.approx(1, abs=1e-4)  # float32
        numbers = [one.number for one in step]
        assert numbers == sorted(numbers, reverse=True) and sum(one.taken for one in step) == 1
        assert text != "top-k:5" or len(step) == 5


def test_searches_end_where_their_functions_end(language):
    for text, how in (
        ("beam:3", BeamSearch(width=3)),
        ("groups:3", BeamSearch(width=3, groups=3, diversity=1.0)),
    ):
        *_, last = Way.of(text).steps(language, PROMPT, 5)
        found = [one.ids for one in last]
        assert found == [answer.tokens for answer in language.search(PROMPT, how, max_tokens=5)]
        assert last[0].taken and not any(one.taken for one in last[1:])
    steps = list(Way.of("contrastive:3").steps(language, PROMPT, 5))
    (answer,) = language.search(PROMPT, ContrastiveSearch(top_k=3), max_tokens=5)
    assert taken(steps) == list(answer.tokens) and all(len(step) == 3 for step in steps)
    for step in steps:
        assert max(step, key=lambda one: one.number).taken


def test_every_name_makes_a_way(language):
    for name in NAMES:
        assert len(list(Way.of(name).steps(language, PROMPT, 2))) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bean:4", 'did you mean "beam"'),
        ("greedy:1", "takes no number"),
        ("top-p:much", "is not a number"),
        ("top-p:2", r"top_p: must be in \(0, 1\]"),
        ("beam:0", "from 1 to 64"),
        ("beam:2.5", "from 1 to 64"),
        ("top-k:2.5", "top_k: must be a whole number"),
    ],
)
def test_what_is_no_way_is_refused(text, said):
    with pytest.raises(BadInput, match=said):
        Way.of(text)
