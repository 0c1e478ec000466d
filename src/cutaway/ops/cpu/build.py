"""Kernels in C++, compiled at first use by the machine's own compiler, for its own CPU, into a per-user cache.

    from cutaway.ops.cpu.build import library
    kernels = library()                # a ctypes.CDLL, or None: then torch does the work
    kernels.count_threads(2)

Every .cpp of this folder becomes part of one shared library, compiled for the best instruction set of SETS that the
CPU itself says it has. Where it is not there yet, the first process that asks has it compiled in the background, and
runs on torch; the next one runs on kernels. CUTAWAY_KERNELS=on compiles at once, =off asks for torch, =avx2 (or another
set) for a lesser set; CXX names another compiler. Nothing here raises because kernels cannot be had: it says why in one
line, to a person at a terminal, and the torch path runs.
Read next: ops/cpu/first_use.py, ops/cpu/pool.h, ops/cpu/vector.h
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from ctypes import CDLL
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from cutaway.ops.cpu import first_use
from cutaway.ops.cpu.commands import Failed
from cutaway.ops.cpu.first_use import Found, State
from cutaway.ops.cpu.instructions import OFF, VARIABLE, opened, wanted


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """What was found: `library` and the name of its set, or neither and `why` not."""

    library: CDLL | None = None
    set: str | None = None
    why: str | None = None
    state: State = "off"


_lock = threading.Lock()
_found: Kernels | None = None


def library() -> CDLL | None:
    """The kernels where there are any; None else. Any thread may ask.

    BadInput where CUTAWAY_KERNELS is no name that there is.
    """
    return kernels().library


def kernels() -> Kernels:
    """The same with the set's name, or why there are none. The first call has them compiled in the background if they
    are not there: this process stays without."""
    global _found
    if _found is None:
        with _lock:
            if _found is None:
                asked = os.environ.get(VARIABLE, "")
                if compiles(asked) and first_use.look(asked).state in ("missing", "building"):
                    _say("compiling kernels for this CPU, once: half a minute or so")
                found = find_kernels(asked)
                if found.state == "missing":
                    first_use.start()
                said = remark(found)
                if said is not None:
                    _say(said)
                _found = found
    return _found


def find_kernels(asked: str) -> Kernels:
    """As `kernels`, for a value of CUTAWAY_KERNELS, nothing remembered, started or said."""
    found: Found = first_use.build(asked) if compiles(asked) else first_use.look(asked)
    if found.path is None:
        return Kernels(state=found.state, why=found.why, set=found.set)
    try:
        return Kernels(state=found.state, library=load(found.path), set=found.set)
    except Failed as error:
        return Kernels(state="failed", why=str(error))


def compiles(asked: str) -> bool:
    """Whether a value of CUTAWAY_KERNELS asks to wait for the compiler: "on", or a set."""
    return wanted(asked) not in (None, OFF)


def remark(found: Kernels) -> str | None:
    """What a person should know of what was found, in a short line; None where all is as they wanted it."""
    if found.state in ("missing", "building"):
        return "kernels are being compiled in the background: the next start is faster"
    if found.library is None and found.state != "off":
        return f"without kernels, more slowly: {found.why}"
    return None


def _say(text: str) -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        print(text, file=sys.stderr)


def load(path: Path) -> CDLL:
    """Opens the library and lends it torch's threads. Raises Failed where it does not load."""
    kernels = opened(path)
    pointer, number = ctypes.c_void_p, ctypes.c_int
    kernels.multiply.argtypes = (pointer, pointer, number, pointer, number, number, number)
    pool = torch_pool()
    if pool is not None:
        kernels.borrow_pool(*pool)
    return kernels


@lru_cache(maxsize=1)
def torch_pool() -> tuple[ctypes.c_void_p, ...] | None:
    """The addresses of three functions of the OpenMP library that torch has loaded; None where it has none such."""
    names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
    beside = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    for place in (None, *map(str, beside)):  # None: all that is loaded for everybody to see
        try:
            found = CDLL(place)
            return tuple(ctypes.cast(getattr(found, name), ctypes.c_void_p) for name in names)
        except (OSError, AttributeError, TypeError):  # TypeError: Windows has no such place
            continue
    return None
