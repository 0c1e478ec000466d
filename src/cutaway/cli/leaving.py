"""Early exit on confidence, as an option: behind which blocks tokens may leave, and how sure the model must be.

Read next: infer/early_exit.py, cli/compare/exits.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cutaway.base.errors import BadInput

if TYPE_CHECKING:
    from cutaway.infer.continuation import Continuation
    from cutaway.infer.language import Language

OPTION = "--leave"
SURE = 0.9

Leave = Annotated[
    str | None,
    typer.Option(
        OPTION,
        metavar="BLOCK,...[:P]",
        help=f"Leave behind these blocks where the next token is at least P likely ({SURE}). Another answer, and much "
        "worse, unless the model was trained for it: `cutaway compare exits MODEL` shows the cost.",
    ),
]


def check_leave(given: str | None, speculate: str | None = None) -> None:
    """Raises BadInput for what can be seen to be wrong without opening anything."""
    if given is None:
        return
    _read(given)
    if speculate is not None:
        raise BadInput("guesses pass through all blocks: leave out --speculate", source=OPTION)


def held_by(language: Language, given: str | None) -> Continuation | None:
    """What an answer with exits is written on; None where nothing was asked for. Raises BadInput for a block that the
    model has not."""
    if given is None:
        return None
    from cutaway.infer.early_exit import Confident

    blocks, sure = _read(given)
    if blocks[-1] >= len(language.spec.blocks):
        said = f"the model has {len(language.spec.blocks)} blocks: leave before the last, not behind {blocks[-1]}"
        raise BadInput(said, source=OPTION)
    return language.continuation(Confident(after=blocks, threshold=sure))


def in_words(held: Continuation) -> str:
    """One line: how far tokens went."""
    told = plain(held)
    return f"exits: {told['blocks']:.1f} of {told['of']} blocks a token in the mean, {told['left']} of them left early"


def plain(held: Continuation) -> dict[str, float]:
    """For JSON."""
    from cutaway.infer.early_exit import Leaving

    assert isinstance(held, Leaving)
    whole = len(held.module.blocks)
    return {"blocks": held.depth, "of": whole, "left": sum(one < whole for one in held.left)}


def _read(given: str) -> tuple[tuple[int, ...], float]:
    """The numbers of blocks, and how sure."""
    blocks, colon, sure = given.partition(":")
    try:
        numbers = tuple(int(one) for one in blocks.split(","))
        likely = float(sure) if colon else SURE
    except ValueError:
        raise BadInput(f'"{given}" is no list of blocks such as 20 or 10,20:0.95', source=OPTION) from None
    if numbers[0] < 1 or list(numbers) != sorted(set(numbers)):
        raise BadInput(f'"{blocks}": numbers of blocks, from 1 on, must grow', source=OPTION)
    if not 0.0 < likely <= 1.0:
        raise BadInput(f'"{sure}": how likely must be above 0 and at most 1', source=OPTION)
    return numbers, likely
