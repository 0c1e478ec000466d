"""One id for each character, as the `tokenizers` library has it from the same file."""

from __future__ import annotations

import json

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from cutaway.base.errors import BadInput
from cutaway.text.character import Character


@pytest.fixture(scope="module")
def ours(corpus) -> Character:
    return Character.train(corpus, special=("<|endoftext|>", "<unk>"), unknown="<unk>")


@pytest.fixture(scope="module")
def rust(ours, tmp_path_factory) -> tokenizers.Tokenizer:
    path = tmp_path_factory.mktemp("character") / "tokenizer.json"
    ours.save(path)
    return tokenizers.Tokenizer.from_file(str(path))


def test_ids_are_special_tokens_then_characters_by_code_point():
    made = Character.train(["ba\n", "c b"], special=("<s>",))
    assert made.tokens == ("<s>", "\n", " ", "a", "b", "c")
    assert made.encode("abc<s>\n") == [3, 4, 5, 0, 1] == made.encode("abc<s>\n", special=False)
    assert made.vocab == 6


def test_a_text_of_known_characters_comes_back(ours, corpus):
    for text in corpus:
        ids = ours.encode(text)
        assert len(ids) == len(text)
        assert ours.decode(ids) == text


def test_encoding_equals_the_library(ours, rust, texts):
    fast = ours.fast()
    for text in texts:
        ids = ours.encode(text)
        assert ids == rust.encode(text).ids == fast.encode(text)
        assert ours.decode(ids) == rust.decode(ids) == fast.decode(ids)
        assert ours.decode(ids, special=True) == rust.decode(ids, skip_special_tokens=False)


@given(text=st.lists(st.text() | st.sampled_from(["<unk>", "<|endoftext|>", "the\n", "👨‍👩‍👧"])).map("".join))
def test_any_text_is_encoded_as_the_library_does(ours, rust, text):
    assert ours.encode(text) == rust.encode(text).ids
    assert ours.decode(ours.encode(text)) == rust.decode(ours.encode(text))


def test_letters_that_stand_for_bytes_elsewhere_are_themselves_here():
    made = Character.train(["é Ġ\nü"])
    assert made.fast().decode(made.encode("Ġü é\n")) == made.decode(made.encode("Ġü é\n")) == "Ġü é\n"


def test_saved_and_loaded(ours, tmp_path):
    path = tmp_path / "tokenizer.json"
    ours.save(path)
    again = Character.load(path)
    assert (again.tokens, again.special, again.unknown) == (ours.tokens, ours.special, ours.unknown)


def test_without_an_unknown_token_an_unknown_character_is_refused():
    with pytest.raises(BadInput, match="text: 'c' is not in the vocabulary"):
        Character.train(["ab"]).encode("abc")


def test_the_rarest_characters_are_left_out():
    texts = ["aaabbc", "d"]
    made = Character.train(texts, vocab=3, special=("?",), unknown="?")
    assert made.tokens == ("?", "a", "b")
    assert made.encode("abcd") == [1, 2, 0, 0]
    with pytest.raises(BadInput, match="vocab: is 3; 4 characters and 1 special tokens need 5"):
        Character.train(texts, vocab=3, special=("?",))
    with pytest.raises(BadInput, match="vocab: is 1"):
        Character.train(texts, vocab=1, special=("?",), unknown="?")
    assert Character.train(texts, vocab=100).vocab == 4


def test_bad_input_is_refused():
    with pytest.raises(BadInput, match="corpus: there is no text"):
        Character.train([""])
    with pytest.raises(BadInput, match="unknown: '<unk>' is none of the special tokens"):
        Character.train(["a"], unknown="<unk>")
    with pytest.raises(BadInput, match="text: character 0 is half"):
        Character.train(["a"]).encode("\ud800")
    for wrong in (1, -1):
        with pytest.raises(BadInput, match=f"ids: {wrong} is not an id; there are 1"):
            Character.train(["a"]).decode([wrong])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(pre_tokenizer={"type": "Whitespace"}), "pre_tokenizer: is there"),
        (lambda data: data["model"].update(merges=[["a", "b"]]), r"model\.merges: is not empty"),
        (lambda data: data["model"].update(unk_token="a"), r"model\.unk_token: 'a' is none of the added"),
        (lambda data: data["model"]["vocab"].update(ab=3), r"model\.vocab: 'ab' is not one character"),
        (lambda data: data["model"].update(vocab=3), r"model\.vocab: must be an object"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, change, message):
    path = tmp_path / "tokenizer.json"
    Character.train(["ab"], special=("<s>",)).save(path)
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(BadInput, match=message):
        Character.load(path)
