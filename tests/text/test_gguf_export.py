"""What is written as GGUF metadata reads back to the same ids, here and in transformers."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import normalizers, pre_tokenizers
from tokenizers.models import BPE, WordPiece

from cutaway.base.errors import BadInput
from cutaway.text.presplit import PRESPLITS
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.vocabulary import Vocabulary

KEY = "tokenizer.ggml."


@pytest.mark.parametrize("name", ["gpt-2", "smollm", "qwen2", "llama-bpe", "smaug-bpe", "tekken", "deepseek-v3"])
def test_byte_level_metadata_come_back(name, byte_level_metadata):
    metadata = byte_level_metadata(name)
    written = Tokenizer.from_gguf(metadata).to_gguf()
    expected = {key: value for key, value in metadata.items() if key.startswith("tokenizer.")}
    assert written == {**expected, KEY + "add_eos_token": False}
    assert Tokenizer.from_gguf(written).to_gguf() == written


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_sentencepiece_reads_back_to_equal_ids(architecture, sentencepiece_metadata, gguf_twin, texts):
    metadata = sentencepiece_metadata(architecture)
    original = Tokenizer.from_gguf(metadata)
    written = {**original.to_gguf(), "general.architecture": architecture}
    again, twin = Tokenizer.from_gguf(written), gguf_twin(written)
    assert written[KEY + "tokens"] == metadata[KEY + "tokens"]
    assert written[KEY + "token_type"] == metadata[KEY + "token_type"]
    assert KEY + "merges" not in written, "its scores say it all"
    for text in texts:
        assert original.encode(text) == again.encode(text)
        if architecture == "llama":
            assert original.encode(text) == twin.encode(text)


def test_the_same_from_a_folder(byte_level_metadata, sentencepiece_metadata, tmp_path, texts):
    for index, metadata in enumerate((byte_level_metadata("llama-bpe"), sentencepiece_metadata())):
        original = Tokenizer.from_gguf({**metadata, KEY + "add_bos_token": True, KEY + "add_eos_token": True})
        original.save(tmp_path / str(index))
        again = Tokenizer.from_gguf(Tokenizer.from_folder(tmp_path / str(index)).to_gguf())
        assert again.template == original.template
        assert again.eos_ids == original.eos_ids
        for text in texts:
            assert again.encode(text) == original.encode(text)


def test_merges_are_written_where_scores_cannot_say_them(gguf_twin):
    """Two ways to "abc", of which this tokenizer has only the one that scores would try second."""
    bytes_and_specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens = [*bytes_and_specials, "a", "b", "c", "ab", "bc", "abc", "▁"]
    metadata = {
        "general.architecture": "llama",
        KEY + "model": "llama",
        KEY + "tokens": tokens,
        KEY + "token_type": [2, 3, 3, *[6] * 256, *[1] * 7],
        KEY + "scores": [0.0] * len(tokens),
        KEY + "merges": ["b c", "a b", "a bc"],
        KEY + "add_space_prefix": False,
        KEY + "bos_token_id": 1,
        KEY + "eos_token_id": 2,
        KEY + "unknown_token_id": 0,
    }
    original = Tokenizer.from_gguf(metadata)
    written = {**original.to_gguf(), "general.architecture": "llama"}
    assert written[KEY + "merges"] == ["b c", "a b", "a bc"]
    again = Tokenizer.from_gguf(written)
    for text in ("abc", "ab", "abab c", "aabcc"):
        assert again.encode(text) == original.encode(text)


def test_other_ids_that_end_a_turn_are_kept(byte_level_metadata):
    tokenizer = Tokenizer.from_gguf({**byte_level_metadata("qwen2"), KEY + "eot_token_id": 5, KEY + "eom_token_id": 7})
    assert Tokenizer.from_gguf(tokenizer.to_gguf()).eos_ids == tokenizer.eos_ids


def test_templates_by_name_are_kept(byte_level_metadata):
    templates = {"tokenizer.chat_template": "one", "tokenizer.chat_template.tool_use": "two"}
    tokenizer = Tokenizer.from_gguf({**byte_level_metadata("qwen2"), **templates})
    written = tokenizer.to_gguf()
    assert {key: written[key] for key in templates} == templates
    assert Tokenizer.from_gguf(written).vocabulary.templates == {"default": "one", "tool_use": "two"}


def test_every_cut_is_recognised(byte_level_metadata):
    for name, cut in PRESPLITS.items():
        written = Tokenizer.from_gguf({**byte_level_metadata("qwen2"), KEY + "pre": name}).to_gguf()
        assert PRESPLITS[written[KEY + "pre"]] in (cut, PRESPLITS["smaug-bpe"])


def test_what_gguf_cannot_hold_is_refused(byte_level):
    def refused(backend: Backend, words: str) -> None:
        with pytest.raises(BadInput, match=words):
            Tokenizer(Vocabulary(backend=backend)).to_gguf()

    refused(Backend(WordPiece(vocab={"a": 0}, unk_token="a")), "only BPE can be written")
    refused(Backend(BPE(vocab={"a</w>": 0}, merges=[], end_of_word_suffix="</w>")), "marked ends")
    refused(Backend(BPE(vocab={"a": 0}, merges=[])), "neither byte-level BPE nor SentencePiece")
    odd = Backend.from_str(byte_level("qwen2").to_str())
    odd.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel()])
    refused(odd, "no name for")
    odd = Backend.from_str(byte_level("qwen2").to_str())
    odd.normalizer = normalizers.Lowercase()
    refused(odd, "it normalises text")
    odd.normalizer = normalizers.NFC()
    assert Tokenizer(Vocabulary(backend=odd)).to_gguf()[KEY + "pre"] == "qwen2"
