from __future__ import annotations

import json

import pytest

from cutaway.cli.main import main
from cutaway.lab.compare import length
from cutaway.lab.compare.short import SHORT

ORDER = ["compare", "length", "--text", "text.txt"]


@pytest.fixture
def here(monkeypatch, tmp_path):
    """A folder with a text, and cells that take no time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path / "home"))
    (tmp_path / "text.txt").write_text("a text\n" * 50, encoding="utf-8")
    measured = []

    def measure(self, subject, name):
        measured.append((subject.model, name))
        return {"within": 3.0, "beyond": 4.0, "edges": [0, 10], "losses": [3.5], "passkey": []}

    monkeypatch.setattr(length.LengthComparison, "_measure", measure)
    monkeypatch.setattr(length.LengthComparison, "_train", lambda self, subject: {"parameters": 1})
    return measured


def test_a_table_a_page_and_a_folder(here, tmp_path, capsys):
    order = [*ORDER, "--model", "small", "--model", "small-alibi", "--context", "128,256"]
    assert main(order) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1].split()[:6] == ["small", "(128", "→", "256)", "as-is", "20.09"]
    assert "12 cells to measure, about" in captured.err
    assert (tmp_path / "comparisons" / "length" / "page.html").is_file()
    assert here == [*(("small", name) for name in ALL), *(("small-alibi", name) for name in FEW)]
    assert main(order) == 0 and len(here) == 10, "they are there already"


ALL = ("as-is", "linear", "dynamic-ntk", "yarn", "llama3", "window", "window+sinks")
FEW = ("as-is", "window", "window+sinks")


def test_what_is_asked_for_is_what_is_kept(here, capsys):
    told = ["--variants", "yarn,window", "--context", "1k", "--depths", "0.5", "--window", "32", "--sinks", "2"]
    told += ["--trained", "64", "--passages", "3", "--steps", "7", "--seed", "5", "--json"]
    assert main([*ORDER, "--model", "small", *told]) == 0
    kept = json.loads(capsys.readouterr().out)["comparison"]
    assert (kept["depths"], kept["steps"], kept["seed"], kept["text"]) == ([0.5], 7, 5, "text.txt")
    small = kept["subjects"][0]
    names = ("variants", "context", "lengths", "window", "sinks", "trained", "passages")
    assert [small[name] for name in names] == [["yarn", "window"], 1024, [1024], 32, 2, 64, 3]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--variants", "yarm"], 'small: variants: no variant is called "yarm"; did you mean "yarn"?'),
        (["--window", "300", "--context", "256"], "Sizes.window: 300 tokens and 4 sinks are more than the context"),
        (["--depths", "half"], '--depths: "half" is no number from 0 to 1'),
        (["--depths", "2"], "depths: must be from 0 to 1"),
        (["--context", "long"], "--context:"),
        (["--passages", "0"], "passages: must be at least 1"),
    ],
)
def test_impossible_orders_are_one_line(here, capsys, wrong, message):
    assert main([*ORDER, "--model", "small", *wrong]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not here


def test_a_model_that_is_not_there_and_one_that_writes_nothing(here, capsys):
    assert main([*ORDER, "--model", "no/such/place"]) == 1
    assert main([*ORDER, "--model", "minilm"]) == 2
    assert main(["compare", "length", "--text", "nothing.txt", "--model", "small"]) == 1
    assert "nothing.txt: no such file" in " ".join(capsys.readouterr().err.split())
    assert set(SHORT) == {"small", "small-alibi"}
