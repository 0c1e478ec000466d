"""How many processor threads torch may use: `--threads` before or after the command, or CUTAWAY_THREADS.

Read next: cli/opening.py
"""

from __future__ import annotations

import os

import typer

from cutaway.base.errors import BadInput

MOST = 1024  # threads cost memory each: with a billion of them the system ends the process
KEY = "cutaway.threads"  # in `context.meta`, which a command shares with the group it was called through


def keep(context: typer.Context, value: int | None) -> int | None:
    """The option's callback: remember the number; the one nearer to the command wins."""
    if value is not None:
        context.meta[KEY] = value
    return value


def wanted(context: typer.Context) -> int | None:
    """The number asked for, or None. Raises BadInput if CUTAWAY_THREADS is no number from 1 to MOST."""
    if KEY in context.meta:
        return context.meta[KEY]
    text = os.environ.get("CUTAWAY_THREADS", "").strip()
    if not text:
        return None
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= MOST:
        raise BadInput(f'"{text}" is not a number of threads (1 to {MOST})', source="CUTAWAY_THREADS")
    return int(text)


def apply(context: typer.Context) -> None:
    """Set the number for torch (imports torch); does nothing where none was asked for."""
    count = wanted(context)
    if count is not None:
        import torch

        torch.set_num_threads(count)
