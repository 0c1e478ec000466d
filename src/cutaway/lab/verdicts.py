"""Outcomes of cards as rows, and as Markdown: what each claim came to, then every number beside the paper's.

Read next: lab/card.py, cli/reproduce.py
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cutaway.lab.card import Outcome, figure

SKIPPED = "skipped: no data"
WORDS = {  # of one card, of several
    "holds": ("holds", "hold"),
    "differs": ("differs", "differ"),
    "skipped": ("was skipped", "were skipped"),
    "failed": ("failed", "failed"),
}


def rows(outcomes: Iterable[Outcome]) -> list[tuple[str, str, str, str, str]]:
    """(card, what, paper, ours, verdict) of every number; one row for a card that has none."""
    found = []
    for outcome in outcomes:
        name = outcome.card.name
        for one in outcome.findings:
            verdict = "holds" if one.holds else "differs"
            found.append((name, one.what, one.expected.written(), figure(one.ours), verdict))
        if outcome.missing is not None:
            found.append((name, outcome.missing, "", "", SKIPPED))
        if outcome.failure is not None:
            found.append((name, outcome.failure, "", "", "failed"))
    return found


def summary(outcomes: Sequence[Outcome]) -> str:
    """How many cards came to which verdict: "17 hold, 1 differs"."""
    counts = {verdict: sum(one.verdict == verdict for one in outcomes) for verdict in WORDS}
    told = [f"{count} {WORDS[verdict][count != 1]}" for verdict, count in counts.items() if count]
    return ", ".join(told) or "none was computed"


def markdown(outcomes: Sequence[Outcome], title: str, about: str) -> str:
    """A page of two tables. In the first, a card's number is the first one it finds; the second has all of them."""
    lines = [f"# {title}", "", about, "", f"{summary(outcomes)}.", ""]
    lines += _table(("card", "claim", "source", "paper", "ours", "verdict", "seconds"), map(_claim, outcomes))
    lines += ["", "## Every number", ""]
    lines += _table(("card", "what", "paper", "ours", "verdict"), rows(outcomes))
    return "\n".join(lines) + "\n"


def _claim(outcome: Outcome) -> tuple[str, ...]:
    card, (_, what, paper, ours, verdict) = outcome.card, rows([outcome])[0]
    told = (f"{what}: {paper}", ours, outcome.verdict) if outcome.findings else (what, ours, verdict)
    return (card.name, card.claim, card.source, *told, f"{outcome.seconds:.1f}" if outcome.findings else "")


def _table(titles: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    lines = [titles, ["---"] * len(titles), *([_cell(text) for text in row] for row in body)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _cell(text: str) -> str:
    """Text that stays in its cell, and is not taken for HTML."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
