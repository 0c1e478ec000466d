"""A cell in a fresh process: what ran before it has warmed no cache and left no memory behind.

Read next: lab/compare/layer.py
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cutaway.base import errors
from cutaway.base.errors import BadInput, CutawayError
from cutaway.lab.compare.comparison import Figures

SHORT_OF_MEMORY = "not enough memory"
_ALLOCATING = ("can't allocate memory", "not enough memory", "out of memory")


def ask(module: str, order: dict[str, Any], *, threads: int) -> Figures:
    """What `module`, whose main function is `answer`, makes of `order` in a process with so many threads.

    Where memory does not suffice, {"failed": why}: this too is something to compare. Raises BadInput for what the
    module refuses, CutawayError where the process fails.
    """
    paths = [str(Path(errors.__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUTF8": "1",
        "OMP_NUM_THREADS": str(threads),
    }
    # Ctrl-C reaches this process too; `run` then ends the other one.
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(order),
        capture_output=True,
        env=environment,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode == -getattr(signal, "SIGKILL", 9):  # what Linux does where memory is short
        return {"failed": SHORT_OF_MEMORY}
    try:
        answered = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise CutawayError(f"{module} failed: {last}") from None
    if "refused" in answered:
        raise BadInput(answered["refused"])
    return answered


def answer(measure: Callable[..., Figures]) -> None:
    """The main function of such a module: reads an order, writes what `measure` makes of it."""
    order = json.load(sys.stdin)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends without a word: who asked says what there is to say
    try:
        answered: Figures = measure(**order)
    except MemoryError:
        answered = {"failed": SHORT_OF_MEMORY}
    except RuntimeError as error:  # torch's own
        if not any(sign in str(error).lower() for sign in _ALLOCATING):
            raise
        answered = {"failed": SHORT_OF_MEMORY}
    except CutawayError as error:
        answered = {"refused": str(error)}
    sys.stdout.write(json.dumps(answered))
