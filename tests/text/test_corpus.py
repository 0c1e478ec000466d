"""Half a character is found where it stands."""

from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.text.corpus import checked_text, checked_texts


def test_texts_come_through_as_they_are(texts):
    assert list(checked_texts(texts)) == list(texts)


def test_half_a_character_is_named_with_its_place():
    with pytest.raises(BadInput, match=r"^text: character 2 is half of a surrogate pair"):
        checked_text("ab\ud83d")
    taken = checked_texts(["a", "\udc80"])
    assert next(taken) == "a"
    with pytest.raises(BadInput, match=r"^corpus: text 1: character 0"):
        next(taken)


@pytest.mark.parametrize("wrong", [b"a", 3, None])
def test_what_is_no_text_is_refused(wrong):
    with pytest.raises(BadInput, match="must be a text, not a"):
        checked_text(wrong)


@pytest.mark.parametrize("wrong", ["a text", b"bytes"])
def test_one_text_is_no_corpus(wrong):
    with pytest.raises(BadInput, match="corpus: must be a list of texts"):
        next(checked_texts(wrong))
