"""How many processor threads torch may use: `--threads` before or after the command, or CUTAWAY_THREADS.

Read next: cli/opening.py
"""

from __future__ import annotations

import os
import sys

import typer

from cutaway.base.errors import BadInput
from cutaway.base.load import busy

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


def yield_when_busy() -> None:
    """On a busy machine, lets threads that wait for each other sleep instead of spin.

    A spinning thread keeps its core from the one that it waits for: with other work on both of two cores a model fell
    to 1 token/s, against 14 to 30 with sleeping threads. On a quiet machine spinning is faster, 50 against 34. Must
    come before torch is imported; what the user has set stands.
    """
    told = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys()
    if not told and "torch" not in sys.modules and busy():
        os.environ["OMP_WAIT_POLICY"] = "passive"


def apply(context: typer.Context) -> None:
    """Set the number for torch (imports torch); does nothing where none was asked for."""
    count = wanted(context)
    yield_when_busy()
    if count is not None:
        import torch

        torch.set_num_threads(count)
