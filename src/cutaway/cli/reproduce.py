"""`cutaway reproduce`: a paper's number beside ours.

Read next: lab/card.py, lab/cards/table.py, lab/verdicts.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutaway.base.errors import BadInput
from cutaway.cli import threads
from cutaway.cli.console import Column, say, show_json, show_table
from cutaway.cli.panel import duration

if TYPE_CHECKING:
    from cutaway.lab.card import Card, Outcome


def reproduce(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Cards; --list names them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All cards, one after the other.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="What there is, and how long each takes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="As a page of Markdown, claims included.")] = False,
) -> None:
    """Compute a paper's number with the parts of this house, and show both.

    A card chooses how attention is computed, which is often what it tests: there is no --attend. It is skipped where
    the data it reads is not here. One that goes wrong does not keep the others from their turn. Ctrl-C shows what was
    done and says how to go on. The exit code is 1 if a number differs or a card failed.
    """
    if sum((bool(names), everything, listed)) != 1:
        raise BadInput("give the names of cards, --all or --list", field="NAME")
    if as_json and as_markdown:
        raise BadInput("goes without --json", source="--markdown")
    threads.apply(context)
    from cutaway.lab.cards.table import CARDS, find

    if listed:
        _list(list(CARDS.values()), as_json)
        return
    cards = list(CARDS.values()) if everything else [find(name) for name in dict.fromkeys(names or [])]
    outcomes: list[Outcome] = []
    try:
        _work(cards, outcomes)
    except KeyboardInterrupt:
        _show(outcomes, as_json, as_markdown)
        left = " ".join(card.name for card in cards[len(outcomes) :])
        say(f"interrupted; what is left: cutaway reproduce {left}")
        raise typer.Exit(130) from None
    _show(outcomes, as_json, as_markdown)
    if any(outcome.verdict in ("differs", "failed") for outcome in outcomes):
        raise typer.Exit(1)


def _work(cards: Sequence[Card], outcomes: list[Outcome]) -> None:
    """Fills `outcomes`, card after card. A single card's errors are its caller's."""
    if len(cards) > 1:
        say(f"{len(cards)} cards, about {duration(_seconds(cards))} on two cores that have nothing else to do")
    for place, card in enumerate(cards, start=1):
        left = f"{place}/{len(cards)} " if len(cards) > 1 else ""
        say(f"{left}{card.name}: about {duration(card.seconds)}")
        outcomes.append(card.attempt() if len(cards) > 1 else card.reproduce())
        if len(cards) > 1 and outcomes[-1].verdict != "holds":
            say(f"{card.name}: {outcomes[-1].verdict}{_reason(outcomes[-1])}")


def _reason(outcome: Outcome) -> str:
    return "".join(f" ({told})" for told in (outcome.missing, outcome.failure) if told)


def _seconds(cards: Sequence[Card]) -> int:
    return sum(card.seconds for card in cards)


def _list(cards: list[Card], as_json: bool) -> None:
    if as_json:
        show_json([_about(card) for card in cards])
        return
    columns = (
        Column(title="card"),
        Column(title="about", align="right"),
        Column(title="claim", wrap=True),
        Column(title="source", wrap=True),
    )
    show_table(columns, [(card.name, duration(card.seconds), card.claim, card.source) for card in cards])
    say(f"{len(cards)} cards; --all takes about {duration(_seconds(cards))} on two cores")


def _show(outcomes: list[Outcome], as_json: bool, as_markdown: bool) -> None:
    from cutaway.lab.verdicts import rows, summary

    if as_json:
        show_json([_plain(outcome) for outcome in outcomes])
        return
    if as_markdown:
        _page(outcomes)
        return
    columns = (
        Column(title="card"),
        Column(title="what", wrap=True),
        Column(title="paper", align="right"),
        Column(title="ours", align="right"),
        Column(title="verdict"),
    )
    if outcomes:
        show_table(columns, rows(outcomes))
    if len(outcomes) == 1:
        card = outcomes[0].card
        for line in (card.claim, f"Source: {card.source}.", f"Computed: {card.computed}. Tolerance: {card.tolerance}."):
            say(line)
    else:
        say(f"{summary(outcomes)}, in {duration(sum(outcome.seconds for outcome in outcomes))}")


def _page(outcomes: list[Outcome]) -> None:
    """Markdown on stdout, with what was run, on what, by which versions."""
    import datetime
    import platform

    import torch

    from cutaway import __version__
    from cutaway.cli import machine
    from cutaway.cli.console import write
    from cutaway.lab.cards.table import CARDS
    from cutaway.lab.verdicts import markdown

    whole = len(outcomes) == len(CARDS)
    command = f"cutaway reproduce {'--all' if whole else ' '.join(one.card.name for one in outcomes)} --markdown"
    about = (
        f"`{command}`; {machine.look().processor}, {torch.get_num_threads()} threads, {platform.system()}; "
        f"Python {platform.python_version()}, torch {torch.__version__}, cutaway {__version__}."
    )
    write(markdown(outcomes, f"Papers' claims, computed here, {datetime.date.today().isoformat()}", about))


def _about(card: Card) -> dict[str, Any]:
    names = ("name", "claim", "source", "computed", "tolerance", "seconds")
    return {name: getattr(card, name) for name in names}


def _plain(outcome: Outcome) -> dict[str, Any]:
    findings = [
        {"what": one.what, "paper": one.expected.written(), "ours": one.ours, "holds": one.holds}
        for one in outcome.findings
    ]
    return {
        **_about(outcome.card),
        "verdict": outcome.verdict,
        "missing": outcome.missing,
        "failure": outcome.failure,
        "took": round(outcome.seconds, 3),
        "findings": findings,
    }
