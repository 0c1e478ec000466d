"""Whatever a tokenizer.json asks for that ours would not do is an error that names its field."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors

from cutaway.base.errors import BadInput, NotFound
from cutaway.text.bpe import BytePair
from cutaway.text.bpe_file import LETTERS, bytes_of, read, spelling


@pytest.fixture
def file(tmp_path):
    """`file(change)` is the path of a small tokenizer.json whose object was given to `change`."""
    path = tmp_path / "tokenizer.json"
    BytePair.train(["the the a"], vocab=260, special=("<s>",)).save(path)

    def make(change):
        data = json.loads(path.read_text(encoding="utf-8"))
        change(data)
        path.write_text(json.dumps(data), encoding="utf-8")
        return path

    return make


def state(part) -> dict:
    return json.loads(part.__getstate__())


def test_bytes_and_letters():
    every = bytes(range(256))
    assert spelling(b" the\n") == "ĠtheĊ"
    assert bytes_of(spelling(every)) == every
    assert bytes_of("ab c") is None and bytes_of("你") is None and bytes_of("") is None


def test_merges_of_the_older_spelling_are_read(file):
    merges = read(file(lambda data: None))[1]
    path = file(lambda data: data["model"].update(merges=[" ".join(pair) for pair in data["model"]["merges"]]))
    assert read(path)[1] == merges != []


def test_a_special_token_need_not_be_in_the_model(file):
    def move(data):
        last = len(data["model"]["vocab"])
        data["added_tokens"].append({**data["added_tokens"][0], "content": "中", "id": last})

    tokens, _, special, _ = read(file(move))
    assert special == {"<s>": 0, "中": 260} and tokens[260] == "中".encode()


def set_model(**fields):
    return lambda data: data["model"].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_model(type="WordPiece"), r"model\.type"),
        (set_model(unk_token="<s>"), r"model\.unk_token: is '<s>'"),
        (set_model(continuing_subword_prefix="##"), r"model\.continuing_subword_prefix"),
        (set_model(end_of_word_suffix="</w>"), r"model\.end_of_word_suffix"),
        (set_model(byte_fallback=True), r"model\.byte_fallback"),
        (set_model(ignore_merges=True), r"model\.ignore_merges"),
        (set_model(dropout=0.1), r"model\.dropout"),
        (set_model(merges=None), r"model\.merges"),
        (set_model(merges=[["t", "h", "e"]]), r"model\.merges\[0\]: must be two tokens"),
        (set_model(merges=[3]), r"model\.merges\[0\]: must be two tokens"),
        (set_model(merges=[["t", "t"]]), r"model\.merges\[0\]: 'tt' is not in the vocabulary"),
        (set_model(vocab=[]), r"model\.vocab"),
        (set_model(vocab={"a": 0}), r"model\.vocab"),
        (
            lambda data: data["model"]["vocab"].update({"中": 260}),
            r"model\.vocab: '中' has a letter that stands for no",
        ),
        (lambda data: data["model"]["vocab"].update({"x": 10}), r"model\.vocab"),
        (lambda data: data.update(normalizer=state(normalizers.NFC())), "normalizer: changes the text first"),
        (lambda data: data.update(normalizer={"type": "?"}), "normalizer"),
        (
            lambda data: data.update(pre_tokenizer=state(pre_tokenizers.Whitespace())),
            "pre_tokenizer: cuts text in none",
        ),
        (lambda data: data.update(pre_tokenizer=None), "pre_tokenizer: cuts text in none"),
        (lambda data: data["pre_tokenizer"].update(add_prefix_space=True), "pre_tokenizer: cuts text in none"),
        (lambda data: data.update(pre_tokenizer={"type": "?"}), "tokenizer.json"),
        (lambda data: data.update(decoder={"type": "?"}), "tokenizer.json"),
        (
            lambda data: data.update(post_processor=state(processors.BertProcessing(("<s>", 0), ("<s>", 0)))),
            "post_processor: adds tokens around a text",
        ),
    ],
)
def test_what_would_be_encoded_otherwise_is_refused(file, change, message):
    with pytest.raises(BadInput, match=rf"tokenizer\.json.*{message}" if "json" not in message else message):
        read(file(change))


def test_a_byte_without_a_token_is_refused(file):
    def lose(data):
        vocab = data["model"]["vocab"]
        vocab["##"] = vocab.pop(LETTERS[200])

    with pytest.raises(BadInput, match="for byte 200"):
        read(file(lose))


def test_what_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        read(tmp_path / "tokenizer.json")


def test_a_post_processor_that_only_moves_offsets_is_no_matter(file):
    path = file(lambda data: data.update(post_processor=state(processors.ByteLevel(trim_offsets=True))))
    assert read(path)[3] == "gpt-2"
    assert Tokenizer.from_file(str(path)).encode(" the a").ids == BytePair.load(path).encode(" the a")
