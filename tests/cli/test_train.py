from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cutaway.base.errors import BadInput, CutawayError
from cutaway.cli.main import main
from cutaway.cli.train import _hint, stopping
from cutaway.ops import choice
from cutaway.train.run import Run

SMALL = ["layers=1", "heads=2", "dim=32", "length=32", "rows=4", "vocab=300", "evaluate=10", "save=10"]
SMALL += ["task.sampling.tokens=8", "task.evaluated=2", "task.words=5"]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("CUTAWAY_THREADS", "1")
    yield
    torch.set_num_threads(before)


@pytest.fixture
def corpus(tmp_path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("".join(f"The king went to the sea {at} times.\n" for at in range(400)), encoding="utf-8")
    return path


def test_a_run_from_beginning_to_end(corpus, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["train", "nano", f"corpus={corpus}", "steps=10", *SMALL, "--run", str(folder)]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{folder}\n", "where it is, and nothing else, so that a script can go on"
    assert "words it wrote are words of the corpus" in shown.err
    assert "parameters" in shown.err and "step 10/10" in shown.err and "cutaway generate" in shown.err
    card = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert card["name"] == "nano" and card["recipe"]["steps"] == 10 and card["hardware"]["cores"] >= 1
    assert main(["generate", str(folder), "The king", "--max-tokens", "3"]) == 0
    assert main(["train", "--resume", str(folder)]) == 0, "there is nothing left to do"
    assert main(["train", "nano", "--run", str(folder)]) == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--dry-run"], []])
@pytest.mark.parametrize("named", [["--attend", "triton"], ["attend=triton"]])
def test_an_attention_that_cannot_run_here_is_said_first(more, named, corpus, tmp_path, capsys, monkeypatch):
    lacking = replace(choice.ATTEND["triton"], lacks=lambda: BadInput("no GPU is here", field="attend"))
    monkeypatch.setattr(choice, "ATTEND", {**choice.ATTEND, "triton": lacking})
    folder = tmp_path / "run"
    assert main(["train", "nano", f"corpus={corpus}", *named, *more, "--run", str(folder)]) == 2
    shown = capsys.readouterr()
    assert shown.err == "error: attend: no GPU is here\n" and shown.out == "" and not folder.exists()


BERT = ["layers=1", "heads=2", "dim=32", "length=32", "rows=4", "vocab=300", "task.evaluated=2"]
PAIRS = ["layers=1", "heads=2", "dim=16", "hidden=16", "rows=4"]
HINTS = {
    "nano": ("nano", SMALL, ["generate", "chat"]),
    "shakespeare-char": ("shakespeare-char", ["layers=1", "heads=2", "dim=32", "length=32"], ["generate", "chat"]),
    "bert-mini": ("bert-mini", BERT, ["open"]),
    "t5-tiny": ("t5-tiny", [*PAIRS, "task.corpus.count=60", "task.corpus.held=10"], ["generate"]),
    "translate": ("translate", PAIRS, ["generate"]),
}


@pytest.mark.parametrize(("recipe", "changes", "commands"), HINTS.values(), ids=HINTS)
def test_the_last_line_names_commands_that_work(recipe, changes, commands, corpus, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "a run"
    if recipe == "translate":
        corpus = tmp_path / "pairs.tsv"
        corpus.write_text("".join(f"书\t{at}\t学之{at}\t学习它{at}\n" for at in range(120)), encoding="utf-8")
        changes = [*changes, "task.corpus.validation=0.1"]
    told = [] if recipe == "t5-tiny" else [f"corpus={corpus}"]
    assert main(["train", recipe, *told, *changes, "steps=2", "--run", str(folder)]) == 0
    words = shlex.split(capsys.readouterr().err.split("Try it: ")[-1].split("Look into it: ")[-1])
    starts = [at for at, word in enumerate(words) if word == "cutaway"]
    said = [words[at + 1 : after] for at, after in zip(starts, [*starts[1:], len(words)], strict=True)]
    assert [one[0] for one in said] == commands
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    for one in said:
        arguments = [word.rstrip(",") for word in one if word != "or"]
        assert main(arguments) == 0, arguments


def test_a_model_without_a_home_is_not_said_to_open(tmp_path):
    assert "checkpoints" in (hint := _hint(tmp_path)) and "cutaway" not in hint


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to whole consoles only")
def test_control_c_saves_and_stops(corpus, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "cutaway", "train", "nano", f"corpus={corpus}", "steps=100000", *SMALL]
    with subprocess.Popen(
        [*command, "--run", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        figures = folder / "metrics.jsonl"
        while process.poll() is None and (not figures.exists() or figures.read_bytes().count(b"\n") < 3):
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "stopped and saved" in told and "--resume" in told and "Traceback" not in told
    run = Run.open(folder)
    assert run.checkpoints.steps()[-1] == run.metrics.read()[-1]["step"]
    assert (folder / "model.safetensors").exists()


def test_a_second_control_c_does_not_wait():
    with pytest.raises(KeyboardInterrupt), stopping() as asked:
        signal.raise_signal(signal.SIGINT)
        assert asked.is_set()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["nanoo"], 1, 'did you mean "nano"'),
        (["nano", "stepz=3"], 2, 'did you mean "steps"'),
        (["nano", "steps=many"], 2, "takes a whole number"),
        (["nano", "corpus=nowhere.txt", "--run", "x"], 1, "nowhere.txt"),
        ([], 2, "name a recipe"),
        (["nano", "--resume", "x"], 2, "nothing but the folder"),
        (["--resume", "nowhere"], 2, "holds no run"),
        (["--resume", "x", "--dry-run"], 2, "nothing but the folder"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, code, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *arguments]) == code
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert told in error and error.startswith("error: ")


def test_a_dry_run_of_gpt2_counts_and_builds_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "gpt2-124m", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "124,439,808" in out and "19,073" in out and "524,288" in out and "498 MB" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("optimiser", "state"),
    [
        ("Muon", "5.2 MB"),  # one mean of 778,240 numbers in hidden matrices, two of 263,552 others, 4 bytes each
        ("AdamW", "8.3 MB"),  # two of all
        ("Lion", "4.2 MB"),
    ],
)
def test_a_dry_run_counts_the_state_of_its_own_optimiser(optimiser, state, capsys):
    assert main(["train", "nano", f"optimiser={optimiser}", "--dry-run"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("optimiser state")]
    assert line.endswith(state)


def test_events_are_closed_where_training_ends_badly(corpus, tmp_path, monkeypatch, capsys):
    class Full:
        closed = False

        def add(self, line):
            raise CutawayError("the disk is full")

        def close(self):
            self.closed = True

    events = Full()
    monkeypatch.setattr("cutaway.cli.train._events", lambda run: events)
    arguments = [f"corpus={corpus}", "steps=2", *SMALL, "--run", str(tmp_path / "run"), "--tensorboard"]
    assert main(["train", "nano", *arguments]) == 1 and events.closed
    assert "the disk is full" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_line(corpus, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["train", "nano", f"corpus={corpus}", *SMALL, "--run", str(tmp_path / "file" / "run")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_run_that_could_not_begin_leaves_nothing_in_the_way(corpus, tmp_path, capsys):
    folder, arguments = tmp_path / "run", ["steps=1", *SMALL, "--run", str(tmp_path / "run")]
    assert main(["train", "nano", f"corpus={tmp_path / 'corpus.tx'}", *arguments]) == 1
    assert not folder.exists()
    assert main(["train", "nano", f"corpus={corpus}", *arguments]) == 0
    figures = (folder / "metrics.jsonl").read_bytes()
    assert main(["train", "nano", f"corpus={corpus}", *arguments]) == 2 and "--run" in capsys.readouterr().err
    corpus.unlink()
    assert main(["train", "--resume", str(folder)]) == 1
    assert (folder / "metrics.jsonl").read_bytes() == figures, "what was learned stays"
