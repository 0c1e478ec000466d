from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cutaway.cli.main import main

from .runs_made import made_run


@pytest.fixture
def folder(tmp_path):
    made_run(tmp_path / "runs" / "one")
    made_run(tmp_path / "runs" / "two", "rate=0.5")
    return tmp_path / "runs"


def test_runs_are_listed_and_compared(folder, capsys):
    assert main(["runs", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "one" in out and "0.3333" in out and "0.4167" in out and "█" in out
    assert [line.split() for line in out.splitlines() if line.startswith("optimiser.rate")] == [
        ["optimiser.rate", "0.02", "0.5"]
    ]


def test_one_run_is_listed_without_comparison(folder, capsys):
    assert main(["runs", str(folder / "one")]) == 0
    assert "optimiser" not in capsys.readouterr().out


def test_as_json(folder, capsys):
    assert main(["runs", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["run"] for run in found] == ["one", "two"] and found[0]["best_val_loss"] == pytest.approx(5 / 12)


def test_the_page(folder, tmp_path, capsys):
    assert main(["runs", str(folder), "--html", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "雪落在山上" in page and "山雪在落" in page and "before the first step" in page


def test_control_characters_of_a_sample_stay_out_of_the_page(folder, tmp_path):
    (folder / "one" / "samples" / "before.txt").write_text("a\x07b\x1b[31mc", encoding="utf-8")
    assert main(["runs", str(folder), "--html", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "ab[31mc" in page and "\x07" not in page and "\x1b" not in page


def test_no_run_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 1
    assert "no training run in it; `cutaway train nano` makes one" in capsys.readouterr().err


def test_a_damaged_run_is_named(folder, capsys):
    (folder / "one" / "run.json").write_text("{", encoding="utf-8")
    assert main(["runs", str(folder)]) == 2
    assert "run.json: cannot be read" in capsys.readouterr().err


def test_the_share_of_real_words_is_shown_where_it_is_known(folder, capsys):
    assert main(["runs", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "words" in out and "94%" in out
    assert main(["runs", str(folder), "--json"]) == 0
    assert [run["word_share"] for run in json.loads(capsys.readouterr().out)] == [0.935, 0.935]
    for name in ("one", "two"):
        path = folder / name / "metrics.jsonl"
        path.write_text(path.read_text(encoding="utf-8").replace('"word_share"', '"other"'), encoding="utf-8")
    assert main(["runs", str(folder)]) == 0
    assert "words" not in capsys.readouterr().out


def test_its_help_imports_no_torch():
    code = "import sys, cutaway.cli.runs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
