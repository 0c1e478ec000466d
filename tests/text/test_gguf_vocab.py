"""Ids against transformers' own reading of the same GGUF file, and errors that name the key."""

from __future__ import annotations

import re

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.base.errors import BadInput
from cutaway.text.tokenizer import Tokenizer

KEY = "tokenizer.ggml."
# transformers 5.23 has no cut named smollm and uses GPT-2's, in which a digit may take the space before it and what
# follows it. Everywhere else the two cuts give the same ids: no token was ever made of a digit and something else.
SPACE_AND_NUMBER = re.compile(r"\s[\d½Ⅷ①]")


def same(ours: Tokenizer, twin, text: str) -> None:
    ids = ours.encode(text)
    assert ids == twin.encode(text), text
    for special in (False, True):
        assert ours.decode(ids, special) == twin.decode(ids, skip_special_tokens=not special), text


@pytest.mark.parametrize("name", ["gpt-2", "default", "qwen2", "gpt-4o", "smaug-bpe", "qwen35", "dbrx"])
def test_byte_level_ids_equal_transformers(name, byte_level_metadata, gguf_twin, texts):
    metadata = byte_level_metadata(name)
    ours, twin = Tokenizer.from_gguf(metadata), gguf_twin(metadata)
    assert ours.vocab == len(twin)
    for text in texts:
        same(ours, twin, text)


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_sentencepiece_ids_equal_transformers(architecture, sentencepiece_metadata, gguf_twin, texts):
    metadata = sentencepiece_metadata(architecture)
    ours, twin = Tokenizer.from_gguf(metadata), gguf_twin(metadata)
    if architecture == "llama":  # transformers gives a Gemma file <bos>, <eos>, <pad> and <mask> if it has none
        assert ours.vocab == len(twin)
    for text in texts:
        if architecture == "llama" or "<" not in text:
            same(ours, twin, text)


@pytest.fixture(scope="module")
def pairs(byte_level_metadata, sentencepiece_metadata, gguf_twin):
    """(ours, transformers') over the same files."""
    files = (byte_level_metadata("qwen2"), byte_level_metadata("gpt-2"), sentencepiece_metadata())
    return [(Tokenizer.from_gguf(metadata), gguf_twin(metadata)) for metadata in files]


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.text(" \n\tab1,你é👍▁Ġ", max_size=40))
def test_any_text_has_the_ids_that_transformers_gives(pairs, text):
    for ours, twin in pairs:
        same(ours, twin, text)


def test_digits_stand_alone_in_smollm(byte_level_metadata, gguf_twin, texts):
    metadata = byte_level_metadata("smollm")
    ours, twin = Tokenizer.from_gguf(metadata), gguf_twin(metadata)
    kept = [text for text in texts if not SPACE_AND_NUMBER.search(text)]
    assert len(kept) > 8
    for text in kept:
        same(ours, twin, text)
    assert [ours.token(index) for index in ours.encode("a   12")] == ["a", "   ", "1", "2"]


@pytest.mark.parametrize("name", ["llama-bpe", "tekken", "smollm", "deepseek-v3", "deepseek-coder"])
def test_ids_equal_the_tokenizer_that_the_file_was_made_from(name, byte_level, byte_level_metadata, texts):
    """What transformers' GGUF reader does not know: whole tokens before merges, digits apart, DeepSeek's cuts."""
    ours, original = Tokenizer.from_gguf(byte_level_metadata(name)), byte_level(name)
    for text in texts:
        assert ours.encode(text) == original.encode(text).ids


def test_bos_is_added_as_the_file_says_and_else_by_kind(byte_level_metadata, sentencepiece_metadata, gguf_twin):
    quiet = {key: value for key, value in byte_level_metadata("llama-bpe").items() if "add_bos" not in key}
    bos = quiet[KEY + "bos_token_id"]
    assert Tokenizer.from_gguf(quiet).encode("a")[0] == bos, "Llama-3's files leave it to the reader"
    assert Tokenizer.from_gguf(quiet).encode("a", special=False)[0] != bos
    assert Tokenizer.from_gguf({**quiet, KEY + "add_bos_token": False}).encode("a")[0] != bos
    both = {**quiet, KEY + "add_bos_token": True, KEY + "add_eos_token": True, KEY + "pre": "qwen2"}
    assert Tokenizer.from_gguf(both).encode("ab") == gguf_twin(both).encode("ab")
    assert Tokenizer.from_gguf(sentencepiece_metadata()).encode("a")[0] == 1


def test_without_a_space_in_front_there_is_none_behind(sentencepiece_metadata):
    with_prefix = Tokenizer.from_gguf(sentencepiece_metadata())
    without = Tokenizer.from_gguf({**sentencepiece_metadata(), KEY + "add_space_prefix": False})
    assert with_prefix.encode("Hello") == without.encode(" Hello") != without.encode("Hello")
    for tokenizer in (with_prefix, without):
        assert tokenizer.decode(tokenizer.encode("Hello  world")) == "Hello  world"
    assert without.decode(without.encode(" Hello")) == " Hello"


def test_marked_tokens_are_matched_whole(byte_level_metadata):
    metadata = byte_level_metadata("qwen2")
    added = ["<think>", "<｜begin▁of▁text｜>", "  two  "]
    metadata[KEY + "tokens"] = metadata[KEY + "tokens"] + added
    metadata[KEY + "token_type"] = metadata[KEY + "token_type"] + [4, 3, 4]
    tokenizer = Tokenizer.from_gguf(metadata)
    first = tokenizer.vocab - 3
    for index, token in enumerate(added):
        ids = tokenizer.encode(f"a{token}b")
        assert first + index in ids
        assert tokenizer.decode(ids, special=True) == f"a{token}b"
    assert tokenizer.decode([first, first + 1]) == "<think>", "only control tokens are left out of decoded text"


def test_ids_that_end_a_turn(byte_level_metadata):
    metadata = byte_level_metadata("qwen2")
    start = metadata[KEY + "bos_token_id"]
    assert Tokenizer.from_gguf(metadata).eos_ids == {start, start + 2}, "<|endoftext|> and <|im_end|>"
    assert Tokenizer.from_gguf({**metadata, KEY + "eot_token_id": 5}).eos_ids == {start, start + 2, 5}


def test_arrays_of_numpy_are_read_as_lists(sentencepiece_metadata):
    metadata = sentencepiece_metadata()
    arrays = {
        KEY + "scores": numpy.array(metadata[KEY + "scores"], dtype=numpy.float32),
        KEY + "token_type": numpy.array(metadata[KEY + "token_type"], dtype=numpy.int32),
        KEY + "bos_token_id": numpy.uint32(1),
        KEY + "add_bos_token": numpy.bool_(True),
    }
    text = "Hello 你好"
    assert Tokenizer.from_gguf({**metadata, **arrays}).encode(text) == Tokenizer.from_gguf(metadata).encode(text)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model", None, "missing"),
        ("model", 3, "must be a text"),
        ("model", "rwkv", "known: gpt2, llama"),
        ("pre", "nobody-knows", "known: chatglm-bpe"),
        ("tokens", None, "missing"),
        ("tokens", "abc", "must be a list"),
        ("tokens", ["a", 7], "item 1 is a int"),
        ("tokens", [], "empty"),
        ("tokens", ["a", "b", "a"], "'a' is there twice, as 0 and 2"),
        ("token_type", [1, 1], "2 items for"),
        ("token_type", 1, "must be a list"),
        ("merges", None, "missing"),
        ("merges", ["a b c"], "item 0 must be two tokens"),
        ("merges", ["ab"], "item 0 must be two tokens"),
        ("merges", ["a ?!?"], "'?!?', which is no token"),
        ("bos_token_id", 10**6, "token 1000000 of a vocabulary"),
        ("bos_token_id", "1", "must be an integer"),
        ("bos_token_id", -1, "token -1"),
        ("add_bos_token", 1, "must be true or false"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(byte_level_metadata, key, value, words):
    metadata = byte_level_metadata("qwen2")
    metadata[KEY + key] = value
    if value is None:
        del metadata[KEY + key]
    with pytest.raises(BadInput) as caught:
        Tokenizer.from_gguf(metadata, "some/model.gguf")
    assert caught.value.field == KEY + key
    assert words in str(caught.value)
    assert str(caught.value).startswith("some/model.gguf: ")


@pytest.mark.parametrize(("scores", "words"), [([0.0], "1 items for"), (None, "missing"), ("nan", "finite")])
def test_wrong_scores_are_named(sentencepiece_metadata, scores, words):
    metadata = sentencepiece_metadata()
    size = len(metadata[KEY + "scores"])
    metadata[KEY + "scores"] = [float("nan")] * size if scores == "nan" else scores
    with pytest.raises(BadInput, match=words) as caught:
        Tokenizer.from_gguf(metadata, "x.gguf")
    assert caught.value.field == KEY + "scores"


def test_a_template_that_is_no_text_is_named(byte_level_metadata):
    with pytest.raises(BadInput) as caught:
        Tokenizer.from_gguf({**byte_level_metadata("qwen2"), "tokenizer.chat_template": [1]})
    assert caught.value.field == "tokenizer.chat_template"


@pytest.mark.proof
@settings(max_examples=600)
@given(data=st.data())
def test_any_damage_is_an_error_or_none(byte_level_metadata, sentencepiece_metadata, data):
    metadata = data.draw(st.sampled_from([byte_level_metadata("qwen2"), sentencepiece_metadata()])).copy()
    hostile = st.sampled_from([None, -1, 2**40, 1.5, float("inf"), True, "", "x", b"x", [], [""], ["a", "a"], [1], {}])
    for key in data.draw(st.lists(st.sampled_from(sorted(metadata)), min_size=1, max_size=3)):
        value = metadata.get(key)
        if isinstance(value, list) and value and data.draw(st.booleans()):
            value = list(value)
            value[data.draw(st.integers(0, len(value) - 1))] = data.draw(hostile)
            metadata[key] = value
        else:
            metadata[key] = data.draw(hostile)
    try:
        tokenizer = Tokenizer.from_gguf(metadata, "x.gguf")
        assert isinstance(tokenizer.decode(tokenizer.encode("Hello <|im_end|> 你好 12")), str)
    except BadInput as error:
        assert "\n" not in str(error)
        assert str(error).startswith("x.gguf: ")


REAL = ("Hello world", "What is the capital of France?", "你好，世界！", "def f(x):\n    return x\n", "👨‍👩‍👧‍👦👍🏽")


@pytest.mark.proof
@pytest.mark.parametrize("name", ["smollm2-135m", "gemma3-270m"])
def test_real_files_read_as_transformers_reads_them(name, texts):
    from transformers import AutoTokenizer

    from cutaway.weights.gguf.reader import read_gguf
    from cutaway.weights.shelf import path_of

    path = path_of(name)
    if path is None:
        pytest.skip(f"{name} has not been fetched: cutaway get {name}")
    ours = Tokenizer.from_gguf(read_gguf(path).metadata, path)
    twin = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    assert ours.vocab == len(twin)
    assert ours.eos_id == twin.eos_token_id
    for text in (*REAL, *texts):
        if name == "gemma3-270m" or not SPACE_AND_NUMBER.search(text):
            same(ours, twin, text)
