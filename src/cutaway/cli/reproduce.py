"""`cutaway reproduce`: a paper's number beside ours.

Read next: lab/card.py, lab/cards/table.py
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cutaway.base.errors import BadInput
from cutaway.cli.console import Column, say, show_json, show_table
from cutaway.lab.card import Card, Outcome, figure
from cutaway.lab.cards.table import CARDS, find


def reproduce(
    name: Annotated[str | None, typer.Argument(help="A card's name; --list names them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All cards, one after the other.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="What there is, and how long each takes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Compute a paper's number with the parts of this house, and show both.

    A card is skipped where the data it reads is not here. The exit code is 1 if a number differs.
    """
    if sum((name is not None, everything, listed)) != 1:
        raise BadInput("give one card's name, --all or --list", field="NAME")
    if listed:
        _list(as_json)
        return
    cards = list(CARDS.values()) if name is None else [find(name)]
    outcomes = []
    for card in cards:
        say(f"{card.name}: about {card.seconds} s")
        outcomes.append(card.reproduce())
    if as_json:
        show_json([_plain(outcome) for outcome in outcomes])
    else:
        _show(outcomes)
    if any(outcome.verdict == "differs" for outcome in outcomes):
        raise typer.Exit(1)


def _list(as_json: bool) -> None:
    if as_json:
        show_json([_about(card) for card in CARDS.values()])
        return
    columns = (
        Column(title="card"),
        Column(title="seconds", align="right"),
        Column(title="claim", wrap=True),
        Column(title="source", wrap=True),
    )
    show_table(columns, [(card.name, str(card.seconds), card.claim, card.source) for card in CARDS.values()])


def _show(outcomes: list[Outcome]) -> None:
    columns = (
        Column(title="card"),
        Column(title="what", wrap=True),
        Column(title="paper", align="right"),
        Column(title="ours", align="right"),
        Column(title="verdict"),
    )
    rows = []
    for outcome in outcomes:
        for finding in outcome.findings:
            verdict = "holds" if finding.holds else "differs"
            row = (outcome.card.name, finding.what, finding.expected.written(), figure(finding.ours), verdict)
            rows.append(row)
        if outcome.missing is not None:
            rows.append((outcome.card.name, outcome.missing, "", "", "skipped: no data"))
    show_table(columns, rows)
    if len(outcomes) == 1:
        card = outcomes[0].card
        for line in (card.claim, f"Source: {card.source}.", f"Computed: {card.computed}. Tolerance: {card.tolerance}."):
            say(line)


def _about(card: Card) -> dict[str, Any]:
    names = ("name", "claim", "source", "computed", "tolerance", "seconds")
    return {name: getattr(card, name) for name in names}


def _plain(outcome: Outcome) -> dict[str, Any]:
    findings = [
        {"what": one.what, "paper": one.expected.written(), "ours": one.ours, "holds": one.holds}
        for one in outcome.findings
    ]
    return {**_about(outcome.card), "verdict": outcome.verdict, "missing": outcome.missing, "findings": findings}
