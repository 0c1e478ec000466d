"""What a tokenizer.json may hold, and how special tokens are found in a text."""

from __future__ import annotations

import json

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.models import BPE

from cutaway.base.errors import BadInput, NotFound
from cutaway.text import tokenizer_json
from cutaway.text.tokenizer_json import Specials, checked_special, special_of, tokens_by_id


def backend() -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer(BPE(vocab={"</s>": 0, "a": 1, "b": 2}, merges=[]))


@given(text=st.lists(st.sampled_from(["<a>", "b", "|", ">", "<", "a", " "]), max_size=30).map("".join))
def test_special_tokens_are_found_as_the_library_finds_them(text):
    tokens = ["<a>", "<a>b", "b|", "|>"]
    twin = tokenizers.Tokenizer(BPE(vocab={"?": 0}, merges=[], unk_token="?"))
    twin.add_special_tokens(tokens)
    ids = {token: twin.token_to_id(token) for token in tokens}
    found = [index for _, index in Specials(ids).split(text) if index is not None]
    assert found == [index for index in twin.encode(text).ids if index]
    assert "".join(piece for piece, _ in Specials(ids).split(text)) == text


def test_a_text_without_special_tokens_is_one_stretch():
    assert list(Specials({}).split("ab")) == [("ab", None)]
    assert list(Specials({}).split("")) == []


@pytest.mark.parametrize("special", ["<s>", [""], [" "], [3], ["<s>", "<s>"]])
def test_what_is_no_special_token_is_refused(special):
    with pytest.raises(BadInput, match="special"):
        checked_special(special)


def test_roles_follow_the_usual_spellings():
    made = tokenizer_json.fast(tokenizer_json.add_special(backend(), {"</s>": 0}), ["</s>"])
    assert (made.eos_id, made.eos_ids, made.bos_id, made.special) == (0, frozenset({0}), None, {"</s>": 0})


def test_an_id_that_the_library_would_not_give_is_refused():
    with pytest.raises(BadInput, match="'<x>' has id 7, and would get 3"):
        tokenizer_json.add_special(backend(), {"<x>": 7})


def test_written_and_read(tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer_json.write(path, tokenizer_json.add_special(backend(), {"</s>": 0}))
    data = tokenizer_json.read(path, "BPE")
    assert tokens_by_id(data["model"]["vocab"], path) == ["</s>", "a", "b"]
    assert special_of(data, path) == {"</s>": 0}
    assert tokenizers.Tokenizer.from_file(str(path)).get_vocab() == backend().get_vocab()
    with pytest.raises(BadInput, match=r"model\.type: is 'BPE'; this reads 'Unigram'"):
        tokenizer_json.read(path, "Unigram")
    with pytest.raises(NotFound):
        tokenizer_json.read(tmp_path / "absent.json", "BPE")


@pytest.mark.parametrize("vocab", [None, [], {}, {"a": 1}, {"a": 0, "b": 0}, {"a": "0"}, {"a": True}, {"a": 10**12}])
def test_ids_without_order_are_refused(vocab):
    with pytest.raises(BadInput, match=r"model\.vocab"):
        tokens_by_id(vocab, "tokenizer.json")


@pytest.mark.parametrize(
    "added",
    [
        {"a": 1},
        [3],
        [{"content": "a"}],
        [{"content": "", "id": 1, "special": True}],
        [{"content": "a", "id": 1, "special": True, "lstrip": True}],
        [{"content": "a", "id": 1, "special": False}],
    ],
)
def test_added_tokens_that_ours_could_not_match_are_refused(added):
    with pytest.raises(BadInput, match="added_tokens"):
        special_of({"added_tokens": added}, "tokenizer.json")


def test_a_file_without_a_model_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"version": "1.0"}), encoding="utf-8")
    with pytest.raises(BadInput, match="model: is missing"):
        tokenizer_json.read(path, "BPE")
