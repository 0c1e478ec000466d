"""SentencePiece's own ids are the ones to meet, over a model trained here."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cutaway.text import spm
from cutaway.text.tokenizer import Tokenizer


def test_ids_equal_sentencepiece(sentencepiece_model, sentencepiece_metadata, texts):
    tokenizer = Tokenizer.from_gguf(sentencepiece_metadata())
    compared = 0
    for text in texts:
        if text.startswith((" ", "▁")) or "<" in text or "\x00" in text:
            continue  # a space in front is not doubled here; markers in a text are tokens here; C strings end at NUL
        compared += 1
        assert tokenizer.encode(text, special=False) == sentencepiece_model.encode(text), text
    assert compared >= 9


@given(text=st.text("ab 1,你好é👍\n=", max_size=30).filter(lambda text: not text.startswith(" ")))
def test_any_ids_equal_sentencepiece_where_nothing_overlaps(sentencepiece_model, sentencepiece_metadata, text):
    tokenizer = Tokenizer.from_gguf(sentencepiece_metadata())
    theirs = sentencepiece_model.encode(text)
    ours = tokenizer.encode(text, special=False)
    assert tokenizer.decode(ours) == sentencepiece_model.decode(theirs) == text
    if ours != theirs:  # two overlapping ways to make one piece: "===" of "=" and "==", which meet in either order
        assert sorted(ours) == sorted(theirs)
        assert any(run * 3 in text for run in set(text))


def test_merges_come_best_score_first_and_longer_left_half_first():
    pieces = ["a", "b", "ab", "abb", "bb", "abab"]
    scores = [0.0, 0.0, -3.0, -1.0, -2.0, -1.0]
    assert spm.merges_of(pieces, scores, frozenset()) == [
        ("ab", "ab"),  # of one score: first the longer left half, then the longer right half
        ("ab", "b"),
        ("a", "bb"),
        ("b", "b"),
        ("a", "b"),
    ]
    assert ("b", "b") not in spm.merges_of(pieces, scores, frozenset([4]))


def test_runs_of_spaces_are_respelled():
    assert [spm.respelled(text) for text in ("  ", "▁▁", " a", "\n ", "")] == ["▁▁", "▁▁", " a", "\n ", ""]
