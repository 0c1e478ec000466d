from __future__ import annotations

import sys

import numpy as np
import pytest

from cutaway.base.errors import BadInput, MissingExtra
from cutaway.data.duplicates import exact, near, shingles
from cutaway.data.entry import Entry
from cutaway.data.tally import Tally


def entries(texts):
    return [Entry(text, "f", at) for at, text in enumerate(texts, start=1)]


def test_equal_documents_stay_once():
    tally = Tally(read=5)
    assert [entry.place for entry in exact(entries(["a", "b", "a", "A", "b"]), tally)] == [1, 2, 4]
    assert tally.lines() == ["2 the same as an earlier one, the first f:3"]


def jaccard(one: str, other: str) -> float:
    first, second = ({text[at : at + 5] for at in range(len(text) - 4)} for text in (one, other))
    return len(first & second) / len(first | second)


def test_shingles_are_a_set_that_blanks_and_case_do_not_change():
    assert len(shingles("abcdeabcde", 5)) == 5
    assert np.array_equal(shingles("Hello  wORLD\n", 5), shingles("hello world", 5))
    assert np.array_equal(shingles("你好", 5), shingles("你好 ", 5)) and len(shingles("", 5)) == 1
    one, other = "the quick brown fox jumps over it", "the quick brown cat jumps over it"
    first, second = set(shingles(one, 5).tolist()), set(shingles(other, 5).tolist())
    assert len(first & second) / len(first | second) == jaccard(one, other)


@pytest.mark.parametrize("language", ["english", "chinese"])
def test_near_copies_go_and_others_stay(corpus, language):
    pytest.importorskip("datasketch", reason="needs the extra `data`")
    longer = [text for text in corpus if len(text) > 40 and (text[0] < "\u3000") == (language == "english")]
    texts = [" ".join(longer[at : at + 3]) for at in range(0, len(longer), 3)] or longer
    if language == "chinese":
        text = "".join(text for text in corpus if text[0] >= "\u3000")
        texts = [text[at : at + 40] for at in range(0, len(text) - 39, 40)]
    copies = [text[:2] + ("X" if language == "english" else "之") + text[2:] for text in texts]
    assert min(map(jaccard, texts, copies)) > 0.8 > 0.3 > max(jaccard(texts[0], other) for other in texts[1:])
    tally = Tally(read=2 * len(texts))
    kept = list(near(entries(texts + copies), tally, threshold=0.7))
    assert [entry.text for entry in kept] == texts
    assert list(tally.dropped.values()) == [len(copies)] and "like f:1)" in tally.lines()[0]


def test_the_threshold_is_kept_to():
    pytest.importorskip("datasketch", reason="needs the extra `data`")
    generator, texts = np.random.default_rng(0), []
    for _ in range(12):
        base = "".join(generator.choice(list("abcdefghij"), 2000))
        texts += [base, base[:1500] + "".join(generator.choice(list("klmnopqrst"), 500))]
        assert 0.59 < jaccard(*texts[-2:]) < 0.61
    # The estimate's standard deviation is sqrt(0.6 * 0.4 / 128) = 0.043: both thresholds are 3.5 of them away. Banding
    # alone proposes some of these pairs at 0.75 too.
    assert len(list(near(entries(texts), Tally(), threshold=0.75))) == 24
    assert len(list(near(entries(texts), Tally(), threshold=0.45))) == 12


def test_empty_texts_are_alike_and_harm_nobody():
    pytest.importorskip("datasketch", reason="needs the extra `data`")
    assert [entry.place for entry in near(entries(["", "abcdefgh", " "]), Tally())] == [1, 2]


def test_what_cannot_be_is_refused(monkeypatch):
    with pytest.raises(BadInput, match="threshold"):
        list(near([], Tally(), threshold=0))
    with pytest.raises(BadInput, match="shingle"):
        list(near([], Tally(), shingle=0))
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(MissingExtra, match=r"cutaway\[data\]"):
        list(near(entries(["a"]), Tally()))
