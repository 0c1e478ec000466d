"""`cutaway compare exits MODEL`: what a model says if it stops behind each of its blocks.

Read next: lab/exits.py
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cutaway.base.errors import BadInput
from cutaway.cli.console import Column, say, show_json, show_table
from cutaway.cli.opening import ModelName, open_language, read_text
from cutaway.cli.options import Attend

if TYPE_CHECKING:
    from cutaway.lab.exits import Exit


def exits(
    context: typer.Context,
    model: ModelName = "smollm2-135m",
    text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What is read; `-`: standard input; else our explanations.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=2, help="Most tokens of it.")] = 256,
    thresholds: Annotated[str, typer.Option(metavar="P,...", help="How sure is sure enough.")] = "0.5,0.7,0.9,0.99",
    attend: Attend = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """What a model says if it stops behind each of its blocks, and what leaving early costs.

    Agreement: how often the likeliest token is the full model's. Speed counts blocks alone; the head, asked behind each
    of them, is not counted.
    """
    sure = _numbers(thresholds)
    given = _ours() if text is None else read_text(text)
    language = open_language(context, model, attend=attend)
    from cutaway.lab.exits import sweep

    ids = language.encode(given)[: min(tokens, language.spec.length)]
    fixed, leaving = sweep(language, ids, sure)
    if as_json:
        rows = [asdict(one) | {"perplexity": one.perplexity} for one in (*fixed, *leaving)]
        show_json({"model": model, "tokens": len(ids), "exits": rows})
        return
    _show([*fixed, *leaving], f"{model}, {len(ids)} tokens")
    say("for text of its own, with exits: infer/early_exit.py; guesses by the first blocks: --speculate early:BLOCKS")


def _show(exits: list[Exit], title: str) -> None:
    numbers = ("blocks", "faster", "agrees", "perplexity")
    columns = (Column(title="leaves"), *(Column(title=name, align="right") for name in numbers))
    rows = [
        (
            f"behind block {one.blocks:.0f}" if one.threshold is None else f"at p >= {one.threshold:g}",
            f"{one.blocks:.1f}",
            f"{one.faster:.2f}x",
            f"{one.agreement:.1%}",
            f"{one.perplexity:,.1f}" if one.loss < 16 else f"e^{one.loss:.1f}",
        )
        for one in exits
    ]
    show_table(columns, rows, title=title)


def _ours() -> str:
    from cutaway.lab.explain.table import EXPLANATIONS

    return " ".join(one.what for one in EXPLANATIONS.values())


def _numbers(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(one) for one in text.split(","))
    except ValueError:
        raise BadInput(f'"{text}" is no list of numbers such as 0.5,0.9', source="--thresholds") from None
    if not all(0.0 <= one <= 1.0 for one in found):
        raise BadInput(f'"{text}": each must be from 0 to 1', source="--thresholds")
    return found
