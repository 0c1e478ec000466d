"""`cutaway plan`: what a person types, reads and is refused."""

from __future__ import annotations

import json

import pytest

from cutaway.cli.main import main
from cutaway.cli.plan import gigabytes

CONFIG = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    return tmp_path


def test_the_zero_paper(capsys):
    assert main(["plan", "7.5B", "--gpus", "64"]) == 0
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()[1:5]]
    totals = [[cell.strip() for cell in row if cell][-2] for row in rows]
    assert totals == ["120 GB", "31.4 GB", "16.6 GB", "1.88 GB"]


@pytest.mark.parametrize("name", ["config.json", ""])
def test_a_folder_or_its_config(name, folder, capsys):
    assert main(["plan", str(folder / name), "--gpus", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["setting"]["length"] == 64
    assert [row["strategy"] for row in told["bytes"]] == ["ddp", "zero-1", "zero-2", "zero-3", "tensor", "pipeline"]
    assert told["bytes"][0]["weights"] == 2 * told["parameters"]
    assert all(row["activations"] > 0 for row in told["bytes"])


def test_what_is_not_possible_is_said_beside_the_rest(folder, capsys):
    assert main(["plan", str(folder), "--gpus", "8"]) == 0
    told = capsys.readouterr()
    assert "tensor: not possible: 4 heads cannot be shared out among 8 devices" in told.err
    assert "pipeline: not possible: 8 stages are more than the 2 blocks" in told.err
    assert "zero-3" in told.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["7.5B", "--gpus", "8", "--tensor", "16"], "needs at least 16 devices, there are 8"),
        (
            ["7.5B", "--gpus", "8", "--strategy", "zero-3", "--memory", "8"],
            "15.0 GB on each of 8 devices, which have 8 GB; 16",
        ),
        (["7.5B", "--gpus", "8", "--strategy", "ddp", "--memory", "8"], "more devices do not help"),
        (["7.5B", "--strategy", "zero3"], 'did you mean "zero-3"'),
        (["7.5B", "--precision", "half"], '"half" is not known'),
        (["7.5B", "--memory", "0"], "must be positive"),
    ],
)
def test_what_is_refused(arguments, message, capsys):
    assert main(["plan", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_model(capsys):
    assert main(["plan", "nothing-like-it"]) == 1
    assert "no such file, folder or short name" in capsys.readouterr().err


def test_fits_or_not(capsys):
    assert main(["plan", "7.5B", "--gpus", "64", "--memory", "40"]) == 0
    answers = [line.split()[-1] for line in capsys.readouterr().out.splitlines()[1:5]]
    assert answers == ["no", "yes", "yes", "yes"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.50 kB"), (31.4e9, "31.4 GB"), (120e9, "120 GB"), (2.5e12, "2.50 TB")],
)
def test_three_digits(count, text):
    assert gigabytes(count) == text
