"""`cutaway models`: the models known by a short name, and which of them are here.

Read next: weights/shelf.py
"""

from __future__ import annotations

from typing import Annotated

import typer

from cutaway.cli.console import Column, megabytes, millions, show_json, show_table
from cutaway.weights.shelf import SHELF, path_of


def models(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List the models known by a short name.

    `cutaway get NAME` fetches one; chat, open, generate and logits fetch what they miss by themselves. Besides these
    names, every command takes a Hugging Face folder, a hub id, or a .gguf file.
    """
    if as_json:
        show_json([_plain(name) for name in SHELF])
        return
    columns = (
        Column(title="name"),
        Column(title="parameters", align="right"),
        Column(title="size", align="right"),
        Column(title="licence"),
        Column(title="fetched"),
        Column(title="what it is", wrap=True),
    )
    rows = [
        (
            model.name,
            millions(model.parameters),
            megabytes(model.size),
            model.licence,
            "yes" if path_of(model.name) else "no",
            model.description,
        )
        for model in SHELF.values()
    ]
    show_table(columns, rows)


def _plain(name: str) -> dict[str, object]:
    model, path = SHELF[name], path_of(name)
    return {
        "name": model.name,
        "description": model.description,
        "architecture": model.architecture,
        "parameters": model.parameters,
        "context": model.context,
        "bytes": model.size,
        "licence": model.licence,
        "packages": [package.pinned for package in model.packages],
        "path": str(path) if path else None,
    }
