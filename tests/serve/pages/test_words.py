"""Both languages say the same things."""

from __future__ import annotations

import string

from cutaway.serve.pages.words import CHINESE, ENGLISH, words


def test_nothing_is_said_in_one_language_alone():
    assert set(ENGLISH) == set(CHINESE)
    for name, text in ENGLISH.items():
        fields = [[field for _, field, _, _ in string.Formatter().parse(one)] for one in (text, CHINESE[name])]
        assert set(fields[0]) - {None} == set(fields[1]) - {None}, name


def test_the_language_is_asked_for_or_accepted():
    assert words("zh", "en") is CHINESE and words("en", "zh") is ENGLISH
    assert words(None, "fr-CH, zh-CN;q=0.9, en;q=0.8") is CHINESE
    assert words("fr", "de") is words(None, None) is ENGLISH
