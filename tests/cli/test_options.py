from __future__ import annotations

from typing import get_args

import pytest

from cutaway.base.errors import BadInput
from cutaway.cli.options import KINDS, AttendName, changed, in_words
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
        ("top_k=many", 'top_k: "many" is not a number'),
        ("top_p=3", r"top_p: must be in \(0, 1\]"),
    ],
)
def test_what_makes_no_sense_is_said(pairs, line):
    with pytest.raises(BadInput, match=line):
        changed(Decoding(), pairs)


def test_the_attentions_offered_are_those_of_the_table():
    from cutaway.ops.forms import ATTEND

    assert set(get_args(AttendName)) == set(ATTEND)


def test_in_words():
    words = in_words(Decoding(top_k=4))
    assert "top_k=4" in words and "stop=none" in words and "temperature=0.0" in words
