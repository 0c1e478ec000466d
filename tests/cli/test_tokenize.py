from __future__ import annotations

import io
import itertools
import json

import pytest
from rich.console import Console

from cutaway.cli import tokenize as module
from cutaway.cli.main import main
from cutaway.cli.tokenize import drawn, written
from cutaway.text.bpe import BytePair
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.unigram import Unigram
from cutaway.text.wordpiece import WordPiece

TEXT = ["the cat sat on the mat. " * 4]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    BytePair.train(TEXT, vocab=270, special=["<|end|>"]).fast().save(folder)
    return folder


def test_pieces_are_told_apart_in_a_pipe(folder, capsys):
    assert main(["tokenize", "the cat<|end|>é\n", "--with", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "the| cat|<|end|>|\\xc3|\\xa9|\\n",
        "6 tokens, 16 characters, 17 bytes (2.83 bytes per token)",
    ]


def test_ids_and_one_file(folder, capsys):
    tokenizer = Tokenizer.from_folder(folder)
    first, second = tokenizer.encode("the cat")
    assert main(["tokenize", "the cat", "--with", str(folder / "tokenizer.json"), "--ids"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"the:{first}| cat:{second}"


def test_standard_input_and_json(folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("the 你\n".encode()), encoding="utf-8"))
    assert main(["tokenize", "-", "--with", str(folder), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [one["token"] for one in answer["tokens"]] == ["the", " ", "\\xe4", "\\xbd", "\\xa0"]
    assert (answer["count"], answer["characters"], answer["bytes"]) == (5, 5, 7)


def test_no_text_has_no_tokens(folder, capsys):
    assert main(["tokenize", "", "--with", str(folder)]) == 0
    captured = capsys.readouterr()
    assert captured.out == "0 tokens, 0 characters, 0 bytes\n" and "nothing" in captured.err


def test_neighbours_differ_in_colour_on_a_terminal(folder, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(module, "results", lambda: Console(file=screen, force_terminal=True, color_system="standard"))
    tokenizer = Tokenizer.from_folder(folder)
    line = drawn(tokenizer, tokenizer.encode("the cat sat"), ids=False)
    assert line.plain == "the cat sat"
    styles = [span.style for span in line.spans]
    assert len(styles) == 3 and all(one != other for one, other in itertools.pairwise(styles))


def test_special_tokens_around_a_text_can_be_left_out(tmp_path, capsys):
    WordPiece.train(TEXT, vocab=60).fast().save(tmp_path)
    assert main(["tokenize", "the", "--with", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("[CLS]|the|[SEP]\n")
    assert main(["tokenize", "the", "--with", str(tmp_path), "--no-special"]) == 0
    assert capsys.readouterr().out.startswith("the\n")


def test_spaces_of_a_unigram_are_spaces(tmp_path, capsys):
    Unigram.train(TEXT, vocab=290).fast().save(tmp_path)
    assert main(["tokenize", "the cat é", "--with", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[0].replace("|", "") == " the cat <0xC3><0xA9>"


@pytest.mark.parametrize(
    ("piece", "shown"),
    [("a\n", "a\\n"), ("\x1b[0m", "\\x1b[0m"), (" 你", " 你"), ("\u200b", "\\u200b"), ("\\xe4", "\\xe4")],
)
def test_nothing_that_moves_the_cursor_is_printed(piece, shown):
    assert written(piece) == shown


def test_what_is_not_there_is_named(tmp_path, capsys):
    assert main(["tokenize", "x", "--with", str(tmp_path)]) == 1
    assert "no tokenizer.json" in capsys.readouterr().err
    assert main(["tokenize", "a\udcff", "--with", str(tmp_path)]) != 0
