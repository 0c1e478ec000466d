"""`cutaway explain PART`: what a part is, its equation and paper, and what it costs in a real model.

Read next: lab/explain/table.py
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from cutaway.cli.console import Column, results, show_json, show_table
from cutaway.lab.explain.explanation import Explanation, Table
from cutaway.lab.explain.table import FAMILIES, find

WIDTH = 88  # columns that prose is wrapped at: longer lines are hard to read
SOURCE = "src/cutaway/"
UNBROKEN = "\u00a0"  # a space at which no line is broken; written as a plain one


def explain(
    part: Annotated[str, typer.Argument(metavar="[PART]", help="rope, grouped-query, rmsnorm ...")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """What a part is, and what it costs.

    Without PART: everything there is an explanation of. Costs have the numbers of smollm2-135m put in.
    """
    if not part:
        _show_list(as_json)
        return
    found = find(part)
    if as_json:
        show_json(plain(found))
        return
    _show(found)


def _show_list(as_json: bool) -> None:
    if as_json:
        rows = [{"family": family, "name": one.name, "title": one.title} for family, one in _all()]
        show_json({"explanations": [row | {"aliases": list(find(row["name"]).aliases)} for row in rows]})
        return
    shown, before = [], ""
    for family, one in _all():
        shown.append((family if family != before else "", one.name, one.title))
        before = family
    show_table((Column(title="about"), Column(title="PART"), Column(title="what", wrap=True)), shown)


def _all() -> list[tuple[str, Explanation]]:
    return [(family, one) for family, members in FAMILIES.items() for one in members]


def _show(one: Explanation) -> None:
    _print(one.title, style="bold")
    _print(one.what)
    _section("equation", one.equation, style="cyan")
    _section("cost, with the numbers of smollm2-135m")
    for what, *sides in _costs(one):
        _print(what, indent=2)
        sides = list(dict.fromkeys(sides))  # "0 = 0 = 0" is said once
        line = " = ".join(sides)
        _print(line if len(line) <= _width() - 4 else "\n= ".join(sides), indent=4, style="cyan")
    _print(_letters(one), indent=2, style="dim")
    if one.table is not None:
        _section(one.table.title)
        _print(" / ".join(one.table.heads), indent=2, style="dim")
        for first, *others in one.table.rows:
            _print(f"{first}: {', '.join(filter(None, others))}", indent=2)
    _section("paper" if len(one.papers) == 1 else "papers", "\n".join(one.papers))
    _section("written in", "\n".join(SOURCE + file for file in one.files))
    _section("read next", "\n".join(f"cutaway explain {name}" for name in one.read_next))


def _section(title: str, text: str = "", style: str = "") -> None:
    _print(f"\n{title}", style="bold")
    _print(text, indent=2, style=style)


def _print(text: str, *, indent: int = 0, style: str = "") -> None:
    """Text wrapped by display width, without spaces at the ends of its lines; nothing for no text."""
    if not text:
        return
    console = results()
    for line in Text(text).wrap(console, _width() - indent):
        line.rstrip()
        plain = line.plain.replace(UNBROKEN, " ")
        console.print(Text(" " * indent + plain, style=style), soft_wrap=True)


def _width() -> int:
    return min(results().width, WIDTH)


def _costs(one: Explanation) -> list[tuple[str, str, str, str]]:
    """What, the formula, the formula with numbers, the result."""
    from cutaway.lab.explain.example import LETTERS

    return [
        (
            formula.what,
            formula.symbols,
            formula.numbers(LETTERS),
            " ".join(
                filter(None, (f"{formula.result:,}" if formula.result > 9999 else str(formula.result), formula.unit))
            ),
        )
        for formula in one.cost()
    ]


def _letters(one: Explanation) -> str:
    """What the letters of an explanation's formulas mean: "D model dim, F hidden dim"; "" without any."""
    from cutaway.lab.explain.example import MEANINGS
    from cutaway.lab.explain.explanation import SYMBOL

    used = {letter for formula in one.cost() for letter in SYMBOL.findall(formula.symbols)}
    meanings = (f"{letter} {meaning}" for letter, meaning in MEANINGS.items() if letter in used)
    return ", ".join(text.replace(" ", UNBROKEN) for text in meanings)


def plain(one: Explanation) -> dict[str, Any]:
    """For JSON."""
    return {
        "name": one.name,
        "title": one.title,
        "aliases": list(one.aliases),
        "what": one.what,
        "equation": one.equation,
        "cost": [
            {
                "what": formula.what,
                "formula": formula.symbols,
                "numbers": numbers,
                "result": formula.result,
                "unit": formula.unit,
            }
            for formula, (_, _, numbers, _) in zip(one.cost(), _costs(one), strict=True)
        ],
        "table": None if one.table is None else _rows(one.table),
        "papers": list(one.papers),
        "files": list(one.files),
        "read_next": list(one.read_next),
    }


def _rows(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.heads, row, strict=True)) for row in table.rows]
