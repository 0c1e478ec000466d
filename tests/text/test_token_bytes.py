"""Law: the bytes of an answer's tokens, laid end to end, are its text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.infer.vocabularies import KINDS, tokenizer
from tokenizers import Tokenizer as Backend
from tokenizers import decoders
from tokenizers.models import BPE, WordPiece

from cutaway.base.errors import BadInput
from cutaway.text.token_bytes import token_bytes
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.vocabulary import Vocabulary

MADE = {kind: tokenizer(kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_bytes_of_tokens_are_the_text(kind, data):
    made = MADE[kind]
    known = token_bytes(made)
    ids = data.draw(st.lists(st.integers(0, made.vocab - 1), max_size=30))
    ids = [id for id in ids if id not in known.special]
    if ids and ids[0] in known.unled:
        ids = ids[1:]
    if ids and ids[0] in known.unled:
        return
    said = b"".join(known.tokens[id] for id in ids)
    if known.lead:
        said = said.removeprefix(b" ")
    try:
        text = said.decode("utf-8")
    except UnicodeDecodeError:
        return  # how much of it becomes U+FFFD is the decoder's affair; a grammar lets no such thing through
    assert made.decode(ids) == text


def test_the_bytes_of_each_kind():
    byte_level, sentences = (token_bytes(MADE[kind]) for kind in ("byte-level", "spm"))
    assert {b" hello", "北京".encode(), b"\xe5\x8c", b'{"'} <= set(byte_level.tokens)
    assert {b" hello", "北京".encode(), b"\xe5", b'{"', b"  "} <= set(sentences.tokens)
    assert sentences.lead and not byte_level.lead and not token_bytes(MADE["gemma"]).lead
    assert token_bytes(MADE["metaspace"]).unled  # "  " would lose both


@pytest.mark.parametrize(
    "backend, decoder",
    [
        (Backend(WordPiece({"a": 0, "##b": 1, "[UNK]": 2}, unk_token="[UNK]")), decoders.WordPiece()),
        (Backend(BPE({"a</w>": 0, "b": 1}, [])), decoders.BPEDecoder()),
        (Backend(BPE({"a": 0}, [])), None),
    ],
)
def test_tokens_without_bytes_of_their_own_are_refused(backend, decoder):
    if decoder is not None:
        backend.decoder = decoder
    with pytest.raises(BadInput, match="no bytes of their own"):
        token_bytes(Tokenizer(Vocabulary(backend=backend)))


@pytest.mark.parametrize("name", ["gpt-2", "qwen2", "llama-bpe"])
def test_a_trained_byte_level_vocabulary(name, byte_level_metadata, texts):
    made = Tokenizer.from_gguf(byte_level_metadata(name))
    known = token_bytes(made)
    for text in texts:
        ids = made.encode(text, special=False)
        assert b"".join(known.tokens[id] for id in ids if id not in known.special).decode("utf-8") == made.decode(ids)


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_a_trained_sentencepiece_vocabulary(architecture, sentencepiece_metadata, texts):
    made = Tokenizer.from_gguf(sentencepiece_metadata(architecture))
    known = token_bytes(made)
    assert known.lead == (architecture == "llama")
    for text in texts:
        ids = made.encode(text, special=False)
        said = b"".join(known.tokens[id] for id in ids if id not in known.special)
        assert (said.removeprefix(b" ") if known.lead else said).decode("utf-8") == made.decode(ids)
