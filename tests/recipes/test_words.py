from __future__ import annotations

import random
import string

import pytest

from cutaway.recipes.words import TEXTS, drawn, share_known, words

CORPUS = "**ROMEO**  \nBut, soft! what light through yonder window breaks?\nIt is the east, and Juliet's the sun. O'er"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("But, SOFT! what light--through", ["but", "soft", "what", "light", "through"]),
        ("**ROMEO**  \n_x", ["romeo", "x"]),
        ("Juliet’s o'er 'tis dogs'", ["juliet's", "o'er", "tis", "dogs"]),
        ("act 3, 2nd scene", ["act", "nd", "scene"]),
        ("naïve Straße e\u0301te\u0301", ["naïve", "strasse", "e\u0301te\u0301"]),
        (" \n*...*—— 12", []),
    ],
)
def test_what_a_word_is(text, found):
    assert words(text) == found


def test_its_own_corpus_is_all_known():
    known = set(words(CORPUS))
    assert share_known(words(CORPUS.upper()), known) == 1.0
    assert share_known(words("What light is the foo bar"), known) == pytest.approx(4 / 6)
    assert share_known([], known) == 0.0


def test_random_letters_are_hardly_ever_words(corpus):
    known = set(words(corpus.read_text(encoding="utf-8")))
    draw = random.Random(0)
    noise = " ".join("".join(draw.choices(string.ascii_letters, k=draw.randint(2, 8))) for _ in range(400))
    assert len(words(noise)) == 400 and share_known(words(noise), known) < 0.05


def test_so_many_are_drawn_and_none_that_was_cut():
    asked: list[int] = []

    def draw(number: int) -> str:
        asked.append(number)
        return "one two thr"

    assert drawn(draw, 5) == ["one", "two", "one", "two", "one"] and asked == [0, 1, 2]


def test_a_model_that_writes_no_words_comes_to_an_end():
    asked: list[int] = []
    assert drawn(lambda number: asked.append(number) or "** 12 **", 5) == []
    assert len(asked) == TEXTS
