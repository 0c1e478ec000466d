"""Each cut against the expression that its models' own tokenizer.json has, and against what it is known for."""

from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.text.presplit import PRESPLITS, presplit


def pieces(name: str, text: str) -> list[str]:
    return [text[start:end] for _, (start, end) in presplit(name).pre_tokenizer().pre_tokenize_str(text)]


@pytest.mark.parametrize("name", PRESPLITS)
def test_nothing_is_lost(name, texts):
    for text in texts:
        plain = "".join(character for character in text if ord(character) < 128)  # bytes and characters are then one
        assert "".join(pieces(name, plain)) == plain


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("gpt-2", "a  12345 don't", ["a", " ", " 12345", " don", "'t"]),
        ("smollm", "a  123 don't", ["a", "  ", "1", "2", "3", " don", "'t"]),
        ("llama-bpe", "a  12345 DON'T", ["a", " ", " ", "123", "45", " DON", "'T"]),
        ("qwen2", "a 123\n\n b", ["a", " ", "1", "2", "3", "\n\n", " b"]),
        ("gpt-4o", "helloWorld's 1234/\n", ["hello", "World's", " ", "123", "4", "/\n"]),
        ("tekken", "helloWorld's 12", ["hello", "World", "'s", " ", "1", "2"]),
        ("deepseek-v3", "a,b 1234 x", ["a", ",b", " ", "123", "4", " x"]),
        ("deepseek-coder", "a  1\nb", ["a", "  ", "1", "\n", "b"]),
        ("qwen35", "e\u0301a 1", ["e\u0301a", " ", "1"]),
    ],
)
def test_what_each_cut_is_known_for(name, text, expected):
    assert pieces(name, text) == expected


def test_chinese_stands_apart_in_deepseek():
    assert pieces("deepseek-v3", "你好abc世界") == ["你好", "abc", "世界"]
    assert pieces("qwen2", "你好abc世界") == ["你好abc世界"]


@pytest.mark.parametrize(
    ("name", "source", "attribute"),
    [("qwen2", "qwen2", "PRETOKENIZE_REGEX"), ("qwen35", "qwen3_5", "PRETOKENIZE_REGEX")],
)
def test_expressions_equal_those_of_transformers(name, source, attribute):
    import importlib

    module = importlib.import_module(f"transformers.models.{source}.tokenization_{source}")
    assert presplit(name).patterns == (getattr(module, attribute),)


def test_the_other_expressions_equal_those_that_transformers_reads_gguf_with():
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    compared = [name for name in PRESPLITS if name in GGUF_PRE_TOKENIZER_SPLITS]
    assert {"llama-bpe", "tekken", "gpt-4o", "qwen2"} < set(compared)
    for name in compared:
        assert presplit(name).patterns == (GGUF_PRE_TOKENIZER_SPLITS[name],), name


def test_an_unknown_cut_is_an_error_that_lists_the_known():
    with pytest.raises(BadInput, match=r"model\.gguf: tokenizer\.ggml\.pre: .*'mystery'; known: .*llama-bpe.*smollm"):
        presplit("mystery", "model.gguf")
