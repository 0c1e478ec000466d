"""Cuts equal those of the Rust engine, and a text broken at a border has the same pieces."""

from __future__ import annotations

import unicodedata

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from cutaway.base.errors import BadInput
from cutaway.text.patterns import CUTS, Cut, cut_named
from cutaway.text.presplit import presplit

# White space of every kind, and both sides of what the expressions tell apart.
HARD = st.text(
    alphabet="ab'sSDlLrReEvVtTmMſ1２Ⅷ½.,;—_中é\u0301 \t\n\r\x0b\x0c\x1c\x85\xa0\u2028\u3000\u200b\ufeff👍🏽\u200d🇨🇳"
)
# Letters that both sides know: the library's tables of Unicode are older than ours.
OLD = st.characters(exclude_categories=("Cs", "Cn")).filter(lambda c: unicodedata.ucd_3_2_0.category(c) != "Cn")


def twin(cut: Cut):
    """How `tokenizers` cuts: GPT-2's own expression is inside its ByteLevel, which spells bytes; so by offsets."""
    split = presplit("gpt-2" if cut.name == "gpt-2" else "llama3").pre_tokenizer()

    def pieces(text: str) -> list[str]:
        return [text[start:end] for _, (start, end) in split.pre_tokenize_str(text)]

    return pieces


def test_what_is_white_space_is_agreed_upon():
    ours = regex.compile(r"\s")
    twins = pre_tokenizers.Split(Regex(r"\s"), behavior="removed")
    every = [chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000]
    kept = "".join(piece for piece, _ in twins.pre_tokenize_str("".join(every)))
    assert kept == "".join(character for character in every if not ours.match(character))


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@given(text=HARD | st.text(alphabet=OLD))
def test_pieces_equal_those_of_the_library(cut, text):
    pieces = cut.pieces(text)
    assert "".join(pieces) == text
    assert pieces == twin(cut)(text)


def test_expressions_equal_those_for_the_rust_engine():
    assert presplit("llama3").patterns == (CUTS["gpt-4"].pattern,)


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@given(text=HARD)
def test_every_border_leaves_the_pieces_as_they_are(cut, text):
    whole = cut.pieces(text)
    for border in regex.finditer(cut.border, text):
        place = border.start()
        assert border.end() == place
        assert cut.pieces(text[:place]) + cut.pieces(text[place:]) == whole


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@given(texts=st.lists(HARD, max_size=4), size=st.integers(1, 12))
def test_chunks_have_the_pieces_of_the_texts(cut, texts, size):
    chunks = list(cut.chunks(texts, size))
    assert all(chunk for chunk in chunks)
    assert [piece for chunk in chunks for part in chunk for piece in cut.pieces(part)] == [
        piece for text in texts for piece in cut.pieces(text)
    ]


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_a_long_text_is_broken_near_the_size_that_was_asked_for(cut):
    for text in ("one two three\n" * 200, "春眠不觉晓。\n处处闻啼鸟，\r\n" * 200, "x = 1;\n\ty = 2;\n" * 200):
        chunks = list(cut.chunks([text], 100))
        assert all(len(part) <= 115 for chunk in chunks for part in chunk)
    assert list(cut.chunks(["a" * 1000], 10)) == [["a" * 1000]]


def test_chunks_take_texts_only_as_they_are_needed():
    taken = []
    texts = (taken.append(index) or "a b" for index in range(100))
    next(CUTS["gpt-2"].chunks(texts, 6))
    assert taken == [0, 1]


def test_an_unknown_cut_is_an_error_that_lists_the_known():
    with pytest.raises(BadInput, match="'gpt-3'; known: gpt-2, gpt-4"):
        cut_named("gpt-3")
