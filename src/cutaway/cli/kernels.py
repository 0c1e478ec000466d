"""What `cutaway doctor` says of the kernels of ops/cpu, and `--build`, which compiles them while one waits. No torch.

Read next: ops/cpu/first_use.py
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from cutaway.base.errors import CutawayError
from cutaway.cli.console import say
from cutaway.ops.cpu.first_use import Found, build, look
from cutaway.ops.cpu.instructions import OFF, ON, VARIABLE, opened, wanted

BUILD = "cutaway doctor --build"


def found() -> dict[str, Any]:
    """For JSON: what is there; nothing is compiled or begun."""
    return _report(look(os.environ.get(VARIABLE, "")))


def _report(one: Found) -> dict[str, Any]:
    asked = os.environ.get(VARIABLE, "").strip()
    return {
        "state": one.state,
        "asked": asked or None,
        "set": one.set,
        "library": None if one.path is None else str(one.path),
        "why": one.why,
        "compiler": one.compiler,
    }


def in_words(report: dict[str, Any]) -> dict[str, str]:
    """The same as a person reads it."""
    why = report["why"]
    state = {
        "built": f"built for {report['set']}: what multiplies quantised weights",
        "building": "being compiled in the background; torch multiplies meanwhile",
        "missing": f"not compiled: the next answer begins it in the background, `{BUILD}` does it now",
        "failed": f"failed: {why}; `{BUILD}` tries again",
        "impossible": f"none: {why}",
        "off": f"off, as {VARIABLE} asks",
    }[report["state"]]
    told = {"state": state}
    if report["asked"] is not None:
        told[VARIABLE] = report["asked"]
    if report["compiler"] is not None:
        told["compiled by"] = report["compiler"]
    if report["library"] is not None:
        told["library"] = report["library"]
    return told


def build_now(now: Callable[[str], None]) -> dict[str, Any]:
    """Compiles them, and waits; what `found` says of them then. `now(text)` is told how far it is. Raises CutawayError
    where they cannot be had."""
    asked = os.environ.get(VARIABLE, "")
    asked = ON if wanted(asked) in (None, OFF) else asked
    before = look(asked)
    if before.state not in ("built", "impossible"):
        say("compiling takes half a minute of two cores, or so")
    one = build(asked, lambda done, all: now(f"compiling kernels: {done} of {all} files"))
    if one.path is None:
        raise CutawayError(f"no kernels: {one.why}")
    opened(one.path)
    say(f"kernels for {one.set} {'were built already' if before.state == 'built' else 'are built'}: {one.path}")
    return _report(one)
