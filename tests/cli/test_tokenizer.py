from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer as Backend

from cutaway.cli.main import main
from cutaway.text.tokenizer import Tokenizer


@pytest.fixture
def english(root):
    return str(root / "tests" / "data" / "english.txt")


def test_help_lists_what_there_is(capsys):
    assert main(["tokenizer"]) == 0
    assert "train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        ("bpe", ["<|endoftext|>"]),
        ("unigram", ["<unk>", "<|endoftext|>"]),
        ("wordpiece", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]),
        ("character", ["<|endoftext|>", "<unk>"]),
    ],
)
def test_every_kind_is_trained_and_opens(kind, first, english, root, tmp_path, capsys):
    target = tmp_path / "made"
    assert main(["tokenizer", "train", english, "--kind", kind, "--vocab", "420", "--to", str(target), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    tokenizer = Tokenizer.from_folder(target)
    assert answer["vocab"] == tokenizer.vocab <= 420
    text = (root / "tests" / "data" / "english.txt").read_text(encoding="utf-8")
    assert answer["tokens"] == len(tokenizer.encode(text, special=False))
    assert answer["bytes_per_token"] == pytest.approx(len(text.encode()) / answer["tokens"])
    backend = Backend.from_file(str(target / "tokenizer.json"))
    assert [backend.id_to_token(index) for index in range(len(first))] == first
    assert (target / "vocab.txt").exists() == (kind == "wordpiece")
    assert main(["tokenize", "Alice was", "--with", str(target)]) == 0


def test_a_tokenizer_that_stands_is_not_overwritten(english, tmp_path, capsys):
    order = ["tokenizer", "train", english, "--vocab", "300", "--to", str(tmp_path)]
    (tmp_path / "mine.txt").write_text("kept", encoding="utf-8")
    assert main(order) == 0
    before = (tmp_path / "tokenizer.json").read_bytes()
    assert main([*order, "--special", "<a>", "--special", "<b>"]) == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "tokenizer.json").read_bytes() == before
    assert main([*order, "--special", "<a>", "--special", "<b>", "--force"]) == 0
    assert set(Tokenizer.from_folder(tmp_path).special) == {"<a>", "<b>"}
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "kept"
    assert main([*order, "--special", "none", "--force"]) == 0
    assert Tokenizer.from_folder(tmp_path).special == {}


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", [], "the corpus is empty"),
        (b"abc\xffdef", [], "not UTF-8 at byte 3"),
        (b"MZ\x00\x01", [], "binary file"),
        ("\ufeffx".encode("utf-16"), [], "UTF-16"),
        (b"abcdefgh", ["--kind", "wordpiece", "--vocab", "10"], "vocab: 10 tokens"),
        (b"abcdefgh", ["--kind", "unigram", "--vocab", "10"], "vocab: 10 tokens"),
        (b"abcdefgh", ["--kind", "bpe", "--vocab", "10"], "vocab: is 10"),
        (b"abc", ["--special", "<a>", "--special", "<a>"], "more than once"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(content, options, message, tmp_path, capsys):
    path = tmp_path / "corpus.txt"
    path.write_bytes(content)
    assert main(["tokenizer", "train", str(path), "--to", str(tmp_path / "made"), *options]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1 and message in errors[0]
    assert [one.name for one in tmp_path.iterdir()] == ["corpus.txt"]


def test_a_file_is_no_folder_and_nothing_is_no_corpus(english, tmp_path, capsys):
    assert main(["tokenizer", "train", english, "--to", english]) == 2
    assert "is a file; name a folder" in capsys.readouterr().err
    assert main(["tokenizer", "train", str(tmp_path / "none.txt"), "--to", str(tmp_path / "made")]) == 1


def test_one_giant_line_is_trained_on(tmp_path, capsys):
    path = tmp_path / "giant.txt"
    path.write_text("ab你" * 30_000, encoding="utf-8")
    for kind in ("bpe", "unigram", "wordpiece", "character"):
        order = ["tokenizer", "train", str(path), "--kind", kind, "--vocab", "300", "--to", str(tmp_path / kind)]
        assert main(order) == 0
    assert "has no more than" in capsys.readouterr().err
