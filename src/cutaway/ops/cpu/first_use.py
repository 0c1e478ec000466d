"""What there is of the kernels, and how they come to be there: looked for, compiled now, or compiled in the background.

    look(asked)       what is there; nothing is compiled
    build(asked)      the same, compiled now where it is not there
    start()           a process of its own begins to compile, at the lowest priority; it outlives this one

`asked` is a value of CUTAWAY_KERNELS: nothing (what is there, else a background build), "on" (compile now), "off", or a
set's name. Compiling takes half a minute of two cores, and nobody should wait so long for a first token: torch answers
meanwhile. Without torch: the process of `start` imports this file alone.
Read next: ops/cpu/build.py, ops/cpu/compiler.py
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from cutaway.ops.cpu import compiler as making
from cutaway.ops.cpu.commands import Failed
from cutaway.ops.cpu.compiler import Compiler, Told
from cutaway.ops.cpu.instructions import COMMON, FOLDER, OFF, ON, PROBE, SETS, VARIABLE, ask, choose, sources, wanted

State = Literal["built", "building", "missing", "failed", "impossible", "off"]
Get = Callable[[str, tuple[Path, ...], tuple[str, ...], Compiler], Path | None]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What there is: the library and its set where `state` is "built", else `why` not. `compiler`: what it says of
    itself, where one was looked for."""

    state: State
    set: str | None = None
    path: Path | None = None
    why: str | None = None
    compiler: str | None = None


def look(asked: str) -> Found:
    """What is there for a value of CUTAWAY_KERNELS. Takes milliseconds; nothing is compiled or started."""
    return _through(asked, making.made)


def build(asked: str, told: Told = lambda done, all: None) -> Found:
    """The same; what is not there is compiled now. `told`: how many files are done, of how many."""
    return _through(asked, partial(_compiled, told))


def _compiled(told: Told, name: str, files: tuple[Path, ...], flags: tuple[str, ...], compiler: Compiler) -> Path:
    quiet: dict[str, Any] = {} if name == "cpu" else {"told": told}
    return making.compiled(name, files, flags, compiler, **quiet)


def _through(asked: str, get: Get) -> Found:
    name = wanted(asked)
    if name == OFF:
        return Found(state="off", why=f"{VARIABLE}=off")
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return Found(state="impossible", why=f"there are none for {platform.machine()}")
    compiler = making.find()
    if compiler is None:
        return Found(state="impossible", why=making.lack())
    found = partial(Found, compiler=compiler.version)
    wants = ("cpu", (FOLDER / PROBE,), COMMON, compiler)
    try:
        probe = get(*wants)
        if probe is None:
            return found(**_lacking(*wants))
        chosen = choose(ask(probe), None if name == ON else name)
        if chosen is None:
            return found(state="impossible", why=f"this CPU lacks {'AVX2' if name in (None, ON) else name}")
        wants = (f"kernels-{chosen}", sources(), (*COMMON, *SETS[chosen].flags), compiler)
        path = get(*wants)
        return found(set=chosen, **(_lacking(*wants) if path is None else {"state": "built", "path": path}))
    except Failed as error:
        return found(state="failed", why=str(error))


def _lacking(name: str, files: tuple[Path, ...], flags: tuple[str, ...], compiler: Compiler) -> dict[str, Any]:
    """Why something is not there."""
    why = making.fault(name, files, flags, compiler)
    if why is not None:
        return {"state": "failed", "why": why}
    if making.being_made():
        return {"state": "building", "why": "they are being compiled in the background"}
    nowhere = making.nowhere()
    if nowhere is not None:
        return {"state": "failed", "why": f"no folder for compiled kernels: {nowhere}"}
    return {"state": "missing", "why": "they are not compiled yet"}


def start() -> bool:
    """Begins to compile in a process of its own, whose end nobody waits for; False where no process can be started."""
    # Not from the folder that we are in, where a person may have a platform.py: -P leaves it out.
    command = [sys.executable, "-P", "-m", __name__]
    flags = ("DETACHED_PROCESS", "CREATE_NEW_PROCESS_GROUP", "BELOW_NORMAL_PRIORITY_CLASS")
    apart: dict[str, Any] = {"creationflags": sum(getattr(subprocess, one, 0) for one in flags)}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, VARIABLE: os.environ.get(VARIABLE, "") or ON},
            start_new_session=True,  # neither Ctrl-C nor a terminal that is closed reaches it
            **(apart if os.name == "nt" else {}),
        )
    except OSError:
        return False
    # A server outlives it: somebody has to take note of its end, or it stays in the list of processes.
    threading.Thread(target=process.wait, name="kernels being compiled", daemon=True).start()
    return True


def main() -> None:
    """The process of `start`."""
    step_aside()
    if not making.being_made():
        build(os.environ.get(VARIABLE, ""))


def step_aside() -> None:
    """Lets every other program go first. A session is a group for Linux's scheduler, and `nice` counts within it alone:
    where this process began a session, the whole group steps back too, to a tenth of another's share. With 19 it had
    not compiled a file after a quarter of an hour beside eight busy programs."""
    if hasattr(os, "nice"):
        with suppress(OSError):
            os.nice(19)
    if hasattr(os, "getsid") and os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text("10", encoding="utf-8")


if __name__ == "__main__":
    main()
