"""`cutaway reproduce` shows both numbers, and its exit code is the verdict."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cutaway.cli.main import main
from cutaway.lab.card import Card, Finding, Near, NoData
from cutaway.lab.cards.table import CARDS


def card(name: str, compute, seconds: int = 1) -> Card:
    return Card(
        name=name, claim="A claim.", source="arXiv 1", computed="d", tolerance="none", seconds=seconds, compute=compute
    )


def no_data():
    raise NoData("tinyshakespeare is not here")


def broken():
    raise ZeroDivisionError("division by zero")


@pytest.fixture
def cards(monkeypatch):
    made = {
        "good": card("good", lambda: (Finding(what="x", expected=Near(value=2.0), ours=2.0),), seconds=200),
        "bad": card("bad", lambda: (Finding(what="y", expected=Near(value=2.0), ours=3.0),)),
        "absent": card("absent", no_data),
    }
    for name in list(CARDS):
        monkeypatch.delitem(CARDS, name)
    for name, one in made.items():
        monkeypatch.setitem(CARDS, name, one)


def test_a_card_that_holds(cards, capsys):
    assert main(["reproduce", "good"]) == 0
    out = capsys.readouterr()
    assert "holds" in out.out and "A claim." in out.err


def test_a_card_that_differs_is_exit_code_1(cards, capsys):
    assert main(["reproduce", "bad"]) == 1
    assert "differs" in capsys.readouterr().out


def test_absent_data_is_said_and_is_no_failure(cards, capsys):
    assert main(["reproduce", "absent"]) == 0
    assert "skipped: no data" in capsys.readouterr().out


def test_all_and_list_and_json(cards, capsys):
    assert main(["reproduce", "--all"]) == 1
    assert "3 cards, about 3 min 22 s" in capsys.readouterr().err
    assert main(["reproduce", "--list"]) == 0
    out = capsys.readouterr()
    assert "3 min 20 s" in out.out and "--all takes about 3 min 22 s" in out.err
    assert main(["reproduce", "--all", "--json"]) == 1
    verdicts = [one["verdict"] for one in json.loads(capsys.readouterr().out)]
    assert verdicts == ["holds", "differs", "skipped"]


def test_some_by_name_each_once(cards, capsys):
    assert main(["reproduce", "absent", "good", "absent", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["absent", "good"]


def test_a_card_that_goes_wrong_lets_the_others_have_their_turn(cards, monkeypatch, capsys):
    monkeypatch.setitem(CARDS, "good", card("good", broken))
    assert main(["reproduce", "--all"]) == 1
    out = capsys.readouterr()
    assert [line.split()[-1] for line in out.out.splitlines()[1:3]] == ["failed", "differs"]
    assert "ZeroDivisionError: division by zero" in out.out and "1 differs, 1 was skipped, 1 failed" in out.err
    with pytest.raises(ZeroDivisionError):
        main(["reproduce", "good"])


def test_control_c_shows_what_was_done_and_how_to_go_on(cards, monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setitem(CARDS, "bad", card("bad", interrupted))
    assert main(["reproduce", "--all"]) == 130
    out = capsys.readouterr()
    assert "good" in out.out and "bad" not in out.out
    assert "what is left: cutaway reproduce bad absent\n" in out.err
    assert main(["reproduce", "bad"]) == 130
    assert capsys.readouterr().out == ""


def test_as_markdown(cards, capsys):
    assert main(["reproduce", "--all", "--markdown"]) == 1
    page = capsys.readouterr().out
    assert page.startswith("# Papers' claims, computed here, 20") and "`cutaway reproduce --all --markdown`" in page
    assert "| good | A claim. | arXiv 1 | x: 2 | 2 | holds |" in page
    assert main(["reproduce", "good", "--markdown"]) == 0
    assert "`cutaway reproduce good --markdown`" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["good", "--all"], ["--all", "--list"], ["good", "--json", "--markdown"]])
def test_one_thing_at_a_time(cards, arguments):
    assert main(["reproduce", *arguments]) == 2


def test_an_unknown_card_is_met_with_the_nearest(cards, capsys):
    assert main(["reproduce", "goood"]) == 1
    assert "good" in capsys.readouterr().err


def test_its_help_imports_no_torch():
    code = "import sys, cutaway.cli.reproduce; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
