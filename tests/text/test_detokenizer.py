"""The law: what is pushed, joined, and the flush, is what decoding everything gives, for any ids at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders
from tokenizers.models import BPE, WordLevel

from cutaway.text.detokenizer import alphabet
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.vocabulary import Vocabulary

IDS = st.lists(st.integers(0, 10**6), max_size=40)


@pytest.fixture(scope="module")
def some(byte_level_metadata, sentencepiece_metadata):
    """One tokenizer for each kind of decoder."""
    words = {"the</w>": 0, "cat": 1, "s</w>": 2, "</w>": 3, "a</w>b": 4, ".": 5}
    backend = Backend(BPE(vocab=words, merges=[], end_of_word_suffix="</w>"))
    backend.decoder = decoders.BPEDecoder(suffix="</w>")
    marked = Backend(BPE(vocab={"▁a": 0, "b": 1, "▁": 2, "▁▁": 3}, merges=[]))
    marked.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    pieces = Backend(WordLevel(vocab={"a": 0, "##b": 1, ".": 2}, unk_token="a"))
    pieces.decoder = decoders.WordPiece()
    plain = Backend(WordLevel(vocab={"a": 0, "b": 1}, unk_token="a"))
    return {
        "byte level": Tokenizer.from_gguf(byte_level_metadata("gpt-2")),
        "sentencepiece": Tokenizer.from_gguf(sentencepiece_metadata()),
        "sentencepiece without prefix": Tokenizer.from_gguf(sentencepiece_metadata("gemma2")),
        "word ends": Tokenizer(Vocabulary(backend=backend)),
        "metaspace": Tokenizer(Vocabulary(backend=marked)),
        "word pieces": Tokenizer(Vocabulary(backend=pieces)),
        "none": Tokenizer(Vocabulary(backend=plain)),
    }


def streamed(tokenizer: Tokenizer, ids: list[int], special: bool) -> str:
    stream = tokenizer.detokenizer(special)
    return "".join([*(stream.push(index) for index in ids), stream.flush()])


@given(ids=IDS, special=st.booleans())
def test_pushing_and_flushing_is_decoding(some, ids, special):
    for name, tokenizer in some.items():
        ids = [index % (tokenizer.vocab + 1) for index in ids]  # one id is beyond the vocabulary
        assert streamed(tokenizer, ids, special) == tokenizer.decode(ids, special), name


@given(data=st.binary(max_size=24))
def test_bytes_that_are_no_text_end_as_replacement_characters(some, data):
    """Byte tokens alone, which random ids of a large vocabulary seldom give: every way for UTF-8 to be wrong."""
    table = alphabet()
    level, pieces = some["byte level"], some["sentencepiece"]
    ids = [level.vocabulary.backend.token_to_id(table[byte]) for byte in data]
    assert streamed(level, ids, False) == level.decode(ids) == data.decode("utf-8", "replace")
    ids = [pieces.vocabulary.backend.token_to_id(f"<0x{byte:02X}>") for byte in data]
    assert streamed(pieces, ids, False) == pieces.decode(ids)


@pytest.mark.parametrize("name", ["byte level", "sentencepiece", "sentencepiece without prefix"])
def test_a_character_is_never_given_in_halves(some, texts, name):
    tokenizer = some[name]
    for text in ("你好，世界", "👨‍👩‍👧‍👦👍🏽", *texts):
        stream = tokenizer.detokenizer(special=True)
        ids = tokenizer.encode(text, special=False)
        given_so_far = ""
        for index in ids:
            given_so_far += stream.push(index)
            assert "\ufffd" not in given_so_far
            assert tokenizer.decode(ids, special=True).startswith(given_so_far)
        assert given_so_far + stream.flush() == tokenizer.decode(ids, special=True)


def test_text_comes_as_soon_as_it_is_whole(some):
    level = some["byte level"]
    stream = level.detokenizer()
    ids = level.encode("a é b", special=False)
    assert [stream.push(index) for index in ids][:1] == ["a"]
    assert stream.flush() == ""
    words = some["word ends"].detokenizer()
    assert [words.push(index) for index in (0, 1, 2, 5)] == ["the", " cat", "s", " ."]
    assert words.flush() == ""


def test_a_stream_can_be_used_again_after_its_flush(some):
    for tokenizer in some.values():
        stream = tokenizer.detokenizer()
        twice = ["".join([*map(stream.push, [0, 1, 2]), stream.flush()]) for _ in range(2)]
        assert twice[0] == twice[1]


def test_special_tokens_are_kept_only_when_asked(some):
    tokenizer = some["byte level"]
    ids = tokenizer.encode("a<|im_end|>b")
    assert streamed(tokenizer, ids, False) == "ab"
    assert streamed(tokenizer, ids, True) == "a<|im_end|>b"


def test_the_alphabet_has_a_character_for_every_byte():
    table = alphabet()
    assert len(set(table)) == 256
    assert (table[ord("A")], table[ord(" ")], table[ord("\n")], table[0xE4]) == ("A", "Ġ", "Ċ", "ä")
