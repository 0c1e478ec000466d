from __future__ import annotations

import re
from dataclasses import fields

import pytest

from cutaway.lab.explain.example import LETTERS, MEANINGS
from cutaway.lab.explain.explanation import SYMBOL, Formula
from cutaway.lab.explain.table import EXPLANATIONS

ALL = pytest.mark.parametrize("one", EXPLANATIONS.values(), ids=EXPLANATIONS)


def worth(formula: Formula) -> float:
    """The formula worked out by Python from the text that a reader sees."""
    text = formula.numbers(LETTERS).replace("·", "*")
    assert re.fullmatch(r"[0-9+\-*/() ]+", text), text
    return eval(text)


@ALL
def test_the_formula_gives_what_the_part_answers_itself(one):
    for formula in one.cost():
        assert worth(formula) == formula.result, f"{one.name}: {formula.what}"


def test_a_wrong_formula_would_be_seen():
    right = EXPLANATIONS["gated"].cost()[0]
    assert worth(right) == right.result != worth(Formula(what="", symbols="2·D·F", result=right.result))


@ALL
def test_files_are_there(one, root):
    assert one.files
    for file in one.files:
        assert (root / "src" / "cutaway" / file).is_file(), file


@ALL
def test_it_says_enough_and_not_too_much(one):
    sentences = re.findall(r"[.!?](?: |$)", one.what)
    assert 3 <= len(sentences) <= 6, f"{one.name} has {len(sentences)} sentences"
    assert one.title and one.equation and one.papers
    assert max(map(len, one.equation.splitlines())) <= 86, "an equation is not to be wrapped"


@ALL
def test_what_to_read_next_is_there(one):
    assert one.read_next and one.name not in one.read_next
    assert set(one.read_next) <= EXPLANATIONS.keys()


def test_every_letter_has_a_number_and_a_meaning():
    assert LETTERS.keys() == MEANINGS.keys()
    used = {
        letter for one in EXPLANATIONS.values() for formula in one.cost() for letter in SYMBOL.findall(formula.symbols)
    }
    assert used <= LETTERS.keys()


def test_a_letter_inside_a_word_stays():
    assert Formula(what="", symbols="2·D + MIN", result=0).numbers({"D": 3, "N": 1}) == "2·3 + MIN"
    assert [field.name for field in fields(Formula)] == ["what", "symbols", "result", "unit"]
