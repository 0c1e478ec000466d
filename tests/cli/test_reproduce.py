"""`cutaway reproduce` shows both numbers, and its exit code is the verdict."""

from __future__ import annotations

import json

import pytest

from cutaway.cli.main import main
from cutaway.lab.card import Card, Finding, Near, NoData
from cutaway.lab.cards.table import CARDS


def card(name: str, compute) -> Card:
    return Card(
        name=name, claim="A claim.", source="arXiv 1", computed="d", tolerance="none", seconds=1, compute=compute
    )


def no_data():
    raise NoData("tinyshakespeare is not here")


@pytest.fixture
def cards(monkeypatch):
    made = {
        "good": card("good", lambda: (Finding(what="x", expected=Near(value=2.0), ours=2.0),)),
        "bad": card("bad", lambda: (Finding(what="y", expected=Near(value=2.0), ours=3.0),)),
        "absent": card("absent", no_data),
    }
    monkeypatch.setattr("cutaway.cli.reproduce.CARDS", made)
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
    assert main(["reproduce", "--list"]) == 0
    capsys.readouterr()
    assert main(["reproduce", "--all", "--json"]) == 1
    verdicts = [one["verdict"] for one in json.loads(capsys.readouterr().out)]
    assert verdicts == ["holds", "differs", "skipped"]


@pytest.mark.parametrize("arguments", [[], ["good", "--all"], ["--all", "--list"]])
def test_one_thing_at_a_time(cards, arguments):
    assert main(["reproduce", *arguments]) == 2


def test_an_unknown_card_is_met_with_the_nearest(cards, capsys):
    assert main(["reproduce", "goood"]) == 1
    assert "good" in capsys.readouterr().err
