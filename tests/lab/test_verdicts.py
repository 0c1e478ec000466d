"""A number's row is the card's, and a page of Markdown has as many cells in every row, whatever the texts hold."""

from __future__ import annotations

import re

from cutaway.lab.card import AtLeast, Card, Finding, Near, Outcome
from cutaway.lab.verdicts import markdown, rows, summary


def card(name: str) -> Card:
    return Card(
        name=name,
        claim="A | claim of <b>x</b>.",
        source="arXiv 1",
        computed="d",
        tolerance="e",
        seconds=1,
        compute=lambda: (),
    )


GOOD = Outcome(
    card=card("good"),
    seconds=2.04,
    findings=(
        Finding(what="x", expected=Near(value=2.0), ours=2.0),
        Finding(what="y|z", expected=AtLeast(value=1.5), ours=1.75),
    ),
)
BAD = Outcome(card=card("bad"), seconds=1.0, findings=(Finding(what="w", expected=Near(value=2.0), ours=3.0),))
ABSENT = Outcome(card=card("absent"), missing="a file is not here")
BROKEN = Outcome(card=card("broken"), failure="ZeroDivisionError: division\nby zero")
ALL = (GOOD, BAD, ABSENT, BROKEN)


def test_every_number_has_a_row_and_so_has_a_card_without_any():
    assert rows(ALL) == [
        ("good", "x", "2", "2", "holds"),
        ("good", "y|z", ">= 1.5", "1.75", "holds"),
        ("bad", "w", "2", "3", "differs"),
        ("absent", "a file is not here", "", "", "skipped: no data"),
        ("broken", "ZeroDivisionError: division\nby zero", "", "", "failed"),
    ]


def test_verdicts_are_counted():
    assert summary(ALL) == "1 holds, 1 differs, 1 was skipped, 1 failed"
    assert summary((GOOD, GOOD, ABSENT, ABSENT)) == "2 hold, 2 were skipped"
    assert summary(()) == "none was computed"


def test_the_page_is_two_whole_tables():
    page = markdown(ALL, "Title", "`command`; machine.")
    tables = [table.splitlines() for table in re.findall(r"(?:^\|.*\n)+", page, flags=re.MULTILINE)]
    assert [len(table) for table in tables] == [2 + 4, 2 + 5]
    for table in tables:
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table}
        assert len(cells) == 1, "a row has another number of cells"
    assert "<b>" not in page and "division by zero" in page
    assert tables[0][2] == "| good | A \\| claim of &lt;b>x&lt;/b>. | arXiv 1 | x: 2 | 2 | holds | 2.0 |"
    assert markdown((), "Title", "about").count("| card |") == 2
