from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.infer.decoding import Decoding


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": -1},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": 2.0},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": 5e-324},
        {"repetition_penalty": 1e300},
        {"stop": ("",)},
        {"stop": 5},
        {"temperature": "hot"},
        {"max_tokens": 2.5},
        {"max_tokens": None},
        {"max_tokens": True},
        {"top_p": "all"},
        {"seed": 1.5},
        {"min_tokens": -1},
        {"min_tokens": 300},
        {"typical_p": 0.0},
        {"epsilon": 1.0},
        {"eta": -0.1},
        {"presence_penalty": float("nan")},
        {"presence_penalty": -1e300},
        {"frequency_penalty": "much"},
        {"no_repeat_ngram": 0},
        {"banned": (-1,)},
        {"banned": ((),)},
        {"forced": ("a",)},
        {"forced": (True,)},
        {"end_forced": 1},
        {"logit_bias": {-3: 1.0}},
        {"logit_bias": {3: float("nan")}},
        {"logit_bias": {3: 1e300}},
    ],
)
def test_an_impossible_option_is_refused_by_name(wrong):
    with pytest.raises(BadInput) as caught:
        Decoding(**wrong)
    assert caught.value.field == next(iter(wrong))


def test_one_stop_text_needs_no_list():
    assert Decoding(stop="end").stop == ("end",)
    assert Decoding(stop=["a", "b"]).stop == ("a", "b")


def test_ids_may_be_given_as_lists_and_mappings():
    decoding = Decoding(logit_bias={5: 1, 3: -2.5}, banned=[7, [1, 2]], forced=[4])
    assert decoding.logit_bias == ((5, 1.0), (3, -2.5))
    assert decoding.banned == ((7,), (1, 2)) and decoding.forced == (4,)
    assert Decoding(**vars(decoding)) == decoding


@pytest.mark.parametrize("wrong", [{"banned": 5}, {"forced": 5}, {"logit_bias": [1, 2]}, {"logit_bias": {1: "much"}}])
def test_what_holds_no_ids_is_refused(wrong):
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Decoding(**wrong)


@pytest.mark.parametrize(
    ("options", "ruled"),
    [
        ({}, False),
        ({"top_p": 0.5, "repetition_penalty": 2.0, "typical_p": 0.3}, False),
        ({"min_tokens": 1}, True),
        ({"presence_penalty": -0.5}, True),
        ({"frequency_penalty": 0.1}, True),
        ({"no_repeat_ngram": 2}, True),
        ({"banned": (1,)}, True),
        ({"forced": (0,)}, True),
        ({"end_forced": True}, True),
        ({"logit_bias": {1: 1.0}}, True),
    ],
)
def test_rules_are_asked_for_only_where_there_are_any(options, ruled):
    assert Decoding(**options).ruled == ruled
