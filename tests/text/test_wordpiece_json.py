from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend

from cutaway.base.errors import BadInput
from cutaway.base.paths import home
from cutaway.text.wordpiece import SPECIAL, WordPiece

BROKEN = {
    "model.vocab": lambda data: data["model"].update(vocab=[]),
    "model.vocab.'a'": lambda data: data["model"]["vocab"].update(a="1"),
    "model.unk_token": lambda data: data["model"].update(unk_token="<unk>"),
    "model.continuing_subword_prefix": lambda data: data["model"].update(continuing_subword_prefix=3),
    "model.max_input_chars_per_word": lambda data: data["model"].update(max_input_chars_per_word=-1),
    "model.type": lambda data: data["model"].update(type="BPE"),
    "normalizer": lambda data: data["normalizer"].update(lowercase="yes"),
    "pre_tokenizer": lambda data: data.update(pre_tokenizer=None),
    "decoder": lambda data: data.update(decoder={"type": "ByteLevel"}),
    "post_processor": lambda data: data["post_processor"].update(single=[]),
    "added_tokens[1]": lambda data: data["added_tokens"][1].update(id=-1),
    "vocabulary": lambda data: data["model"].update(vocab={"a": 0}) or data.update(added_tokens=[]),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "tokenizer.json"
    WordPiece([*SPECIAL, "a", "##b"]).save(path)
    return path


@pytest.mark.parametrize("field", BROKEN)
def test_a_broken_file_is_named_with_its_field(path, field):
    data = json.loads(path.read_text(encoding="utf-8"))
    BROKEN[field](data)
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        WordPiece.load(path)
    assert (caught.value.field, caught.value.source) == (field, path)


def test_berts_older_frame_is_the_same(path):
    data = json.loads(path.read_text(encoding="utf-8"))
    data["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    path.write_text(json.dumps(data), encoding="utf-8")
    assert WordPiece.load(path).encode("ab") == Backend.from_file(str(path)).encode("ab").ids == [2, 5, 6, 3]
    data["post_processor"] = None
    path.write_text(json.dumps(data), encoding="utf-8")
    assert WordPiece.load(path).encode("ab") == Backend.from_file(str(path)).encode("ab").ids == [5, 6]


def test_a_published_vocabulary_gives_the_librarys_ids(texts):
    folder = home() / "models" / "minilm"
    if not (folder / "tokenizer.json").is_file():
        pytest.skip("minilm has not been fetched: cutaway get minilm")
    ours = WordPiece.load(folder / "tokenizer.json")
    theirs = Backend.from_file(str(folder / "tokenizer.json"))
    theirs.no_truncation()
    theirs.no_padding()
    for text in (*texts, Path(__file__).read_text(encoding="utf-8")):
        assert ours.encode(text) == theirs.encode(text).ids
    assert WordPiece.from_vocab(folder / "vocab.txt").encode(texts[2]) == ours.encode(texts[2])
