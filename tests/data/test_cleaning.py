from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.base.errors import BadInput
from cutaway.data.cleaning import Cleaning, cleaned, script_of, shares
from cutaway.data.entry import Entry
from cutaway.data.tally import Tally

CLEANINGS = [Cleaning(form=form, whitespace=blanks) for form in ("NFC", "NFKC", None) for blanks in (False, True)]


@given(st.text(), st.sampled_from(CLEANINGS))
def test_cleaning_twice_is_cleaning_once(text, cleaning):
    once = cleaning.clean(text)
    assert cleaning.clean(once) == once
    assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in once if character not in "\n\t")
    assert cleaning.form is None or unicodedata.is_normalized(cleaning.form, once)


@pytest.mark.parametrize(
    ("text", "plain", "tight"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd", "a\nb\nc\nd"),
        ("\ufeffa\x00\x1b[0m\x7f", "a[0m", "a[0m"),
        ("cafe\u0301 ＡＢ", "café ＡＢ", "café ＡＢ"),
        (" a \t b\u3000c \n\n \n\n d ", " a \t b\u3000c \n\n \n\n d ", "a b c\n\nd"),
        ("👨\u200d👩\u200d👧 می\u200cخواهم", "👨\u200d👩\u200d👧 می\u200cخواهم", "👨\u200d👩\u200d👧 می\u200cخواهم"),
        ("你好，世界。", "你好，世界。", "你好，世界。"),
    ],
)
def test_what_cleaning_does(text, plain, tight):
    assert Cleaning().clean(text) == plain
    assert Cleaning(whitespace=True).clean(text) == tight
    assert Cleaning(form=None, control=False).clean(text) == text


def test_nfkc_makes_look_alikes_plain():
    assert Cleaning(form="NFKC").clean("ＡＢ①ﬁ") == "AB1fi"


def test_what_is_left_out_is_left_out_for_a_reason():
    texts = ["", " \n", "\x01\x02", "ab", "Hello, world! 你", "你好世界 ok", "12345", "x" * 30]
    tally = Tally(read=len(texts))
    cleaning = Cleaning(shortest=3, longest=20, script="Han", share=0.4)
    kept = list(cleaned([Entry(text, "f", at) for at, text in enumerate(texts)], cleaning, tally))
    assert [entry.text for entry in kept] == ["你好世界 ok"]
    assert tally.dropped == {
        "empty": 3,
        "shorter than 3 characters": 1,
        "less than 40% Han": 2,
        "longer than 20 characters": 1,
    }
    assert tally.first["less than 40% Han"] == "f:4 (9%)" and tally.kept == 1


def test_scripts_are_shares_of_letters():
    assert shares("Hello 你好 123 !?") == {"Latin": 5 / 7, "Han": 2 / 7}
    assert shares("ひらカタ漢") == {"Kana": 0.8, "Han": 0.2}
    assert shares("123 !") == {}
    assert [script_of(character) for character in "aЯλ한ح1ა"] == [
        "Latin", "Cyrillic", "Greek", "Hangul", "Arabic", None, "other",
    ]  # fmt: skip


def test_what_was_changed_is_counted():
    tally = Tally()
    list(cleaned([Entry("a\r\n", "f", 1), Entry("b", "f", 2)], Cleaning(), tally))
    assert tally.changed == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"form": "NFD"}, "Cleaning.form"),
        ({"script": "Latn"}, r'unknown script "Latn"; did you mean "Latin"'),
        ({"share": 0.0}, "Cleaning.share"),
        ({"shortest": 5, "longest": 4}, "texts of 5 to 4 characters: there are none"),
    ],
)
def test_an_impossible_value_is_refused(fields, message):
    with pytest.raises(BadInput, match=message):
        Cleaning(**fields)
