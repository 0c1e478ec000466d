"""`cutaway recipes`: the training runs that are known by a name.

Read next: recipes/table.py
"""

from __future__ import annotations

from typing import Annotated

import typer

from cutaway.cli.console import Column, show_json, show_table
from cutaway.recipes.listing import RECIPES


def recipes(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List the recipes: what each makes, and about how long it takes (two free cores, if not said).

    `cutaway train NAME` runs one; `cutaway train NAME steps=500 seed=2` runs it changed.
    """
    if as_json:
        show_json([{"name": one.name, "about": one.about, "takes": one.takes} for one in RECIPES.values()])
        return
    columns = (Column(title="recipe"), Column(title="what it makes", wrap=True), Column(title="takes", wrap=True))
    show_table(columns, [(one.name, one.about, one.takes) for one in RECIPES.values()])
