"""Who guesses at the next tokens, as an option: the text itself, the model's first blocks, or a smaller model.

Read next: infer/proposers.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cutaway.base.errors import BadInput
from cutaway.cli.opening import open_language

if TYPE_CHECKING:
    from cutaway.infer.proposers import Proposer
    from cutaway.infer.speculated import Speculated

OPTION = "--speculate"
LOOKUP, EARLY = "lookup", "early:"

Speculate = Annotated[
    str | None,
    typer.Option(
        OPTION,
        metavar="lookup|early:BLOCKS|MODEL",
        help="Several tokens in a pass where guesses at them are right: from the text itself, by the model's first "
        "blocks, or by a smaller MODEL. The answer stays what it is.",
    ),
]


def check_speculate(given: str | None) -> None:
    """Raises BadInput for what can be seen to be wrong without opening anything."""
    if given is not None and given.startswith(EARLY):
        _blocks(given)
    elif given is not None and not given.strip():
        raise BadInput(f"is empty: write {LOOKUP}, {EARLY}BLOCKS or the name of a model", source=OPTION)


def proposer_of(context: typer.Context, given: str | None) -> Proposer | None:
    """The proposer that was asked for; a model is opened, and fetched first if need be."""
    if given is None:
        return None
    from cutaway.infer.proposers import Draft, EarlyExit, PromptLookup

    if given == LOOKUP:
        return PromptLookup()
    if given.startswith(EARLY):
        return EarlyExit(blocks=_blocks(given))
    return Draft(language=open_language(context, given))


def in_words(told: Speculated) -> str:
    """One line: how many guesses were kept, and what a pass gave."""
    if not told.proposed:
        return "guesses: none were worth a try"
    rate, expected = told.rate or 0.0, told.expected or 0.0
    return (
        f"guesses: {told.accepted} of {told.proposed} kept, {rate:.0%} of those looked at; "
        f"{told.per_pass:.2f} tokens a pass ({expected:.2f} expected)"
    )


def plain(told: Speculated) -> dict[str, float | None]:
    """For JSON."""
    return told.figures


def _blocks(given: str) -> int:
    number = given.removeprefix(EARLY)
    if not (number.isascii() and number.isdigit() and int(number) > 0):
        raise BadInput(f'"{number}" is no number of blocks: write {EARLY}10', source=OPTION)
    return int(number)
