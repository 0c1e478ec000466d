from __future__ import annotations

from typing import get_args

import pytest

from cutaway.base.errors import BadInput
from cutaway.cli.options import KINDS, ActivationsName, AttendName, CacheName, changed, in_words
from cutaway.infer.decoding import Decoding


def test_every_field_can_be_set():
    assert set(KINDS) == set(Decoding.__dataclass_fields__)


def test_pairs_are_put_in_and_taken_back():
    decoding = changed(Decoding(max_tokens=9), "temperature=0.7 top-k=40 stop=END")
    assert decoding == Decoding(max_tokens=9, temperature=0.7, top_k=40, stop=("END",))
    assert changed(decoding, "top_k=none stop=none temperature=off") == Decoding(max_tokens=9)
    assert changed(decoding, "") == decoding


@pytest.mark.parametrize(
    "pairs, line",
    [
        ("temprature=1", 'no parameter is called "temprature"; did you mean "temperature"'),
        ("top_k", "top_k: has no value"),
        ("top_k=many", 'top_k: "many" is not a whole number'),
        ("eta=many", 'eta: "many" is not a number'),
        ("end_forced=2", 'end_forced: "2" is not yes or no'),
        ("banned=1,a", 'banned: "1,a" is not sequences of token ids'),
        ("logit_bias=5", 'logit_bias: "5" is not token ids with numbers'),
        ("top_p=3", r"top_p: must be in \(0, 1\]"),
    ],
)
def test_what_makes_no_sense_is_said(pairs, line):
    with pytest.raises(BadInput, match=line):
        changed(Decoding(), pairs)


def test_ids_are_written_with_commas():
    decoding = changed(Decoding(), "banned=12,13/7 forced=4,5 end_forced=yes logit_bias=5:1,7:-100")
    assert decoding == Decoding(banned=((12, 13), (7,)), forced=(4, 5), end_forced=True, logit_bias={5: 1, 7: -100})


def test_the_attentions_offered_are_those_of_the_table():
    from cutaway.ops.choice import ATTEND

    assert set(get_args(AttendName)) == set(ATTEND)


def test_the_activations_offered_are_those_of_the_forms():
    from cutaway.ops.forms import ACTIVATIONS

    assert get_args(ActivationsName) == ACTIVATIONS


def test_a_cache_is_named_as_it_is_made():
    from cutaway.nn.narrow_cache import KEPT

    assert set(get_args(CacheName)) == set(KEPT)


def test_in_words():
    words = in_words(Decoding(top_k=4))
    assert "top_k=4" in words and "stop=none" in words and "temperature=0.0" in words
    assert "typical_p" not in words and "eta=0.1" in in_words(Decoding(eta=0.1))
