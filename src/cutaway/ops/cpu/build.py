"""Kernels in C++, compiled at first use by the machine's own compiler, for its own CPU, into a per-user cache.

    from cutaway.ops.cpu.build import library
    kernels = library()                # a ctypes.CDLL, or None: then torch does the work
    kernels.count_threads(2)

Every .cpp of this folder becomes part of one shared library, compiled for the best instruction set of SETS that the
CPU itself says it has. Nothing here raises because kernels cannot be had: it says why in one line, once, and the torch
path runs. CUTAWAY_KERNELS=off asks for that path, CUTAWAY_KERNELS=avx2 (or another set) for a lesser set. Commands run
on kernels where it says "on" or names a set: compiling takes a while. CXX names another compiler.
Read next: ops/cpu/compiler.py, ops/cpu/pool.h, ops/cpu/vector.h
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
from collections.abc import Mapping
from ctypes import CDLL
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import torch

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.ops.cpu.compiler import Compiler, Failed, compiled, find

FOLDER = Path(__file__).parent
VARIABLE = "CUTAWAY_KERNELS"
OFF = "off"
PROBE = "cpu.cpp"  # compiled for any CPU: it asks this one
COMMON = ("-std=c++17", "-O3", "-fno-math-errno", "-fvisibility=hidden")


@dataclass(frozen=True, kw_only=True)
class Set:
    """An instruction set: its bit in what `instruction_sets` of cpu.cpp answers, and the compiler's flags for it."""

    bit: int
    flags: tuple[str, ...]


# The best first.
SETS: Mapping[str, Set] = MappingProxyType(
    {
        "avx512": Set(
            bit=4,
            flags=("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx512vnni", "-mfma", "-mf16c"),
        ),
        "avx2-vnni": Set(bit=2, flags=("-mavx2", "-mavxvnni", "-mfma", "-mf16c")),
        "avx2": Set(bit=1, flags=("-mavx2", "-mfma", "-mf16c")),
    }
)


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """What was found: `library` and the name of its set, or neither and `why` not. `doctor` shows it."""

    library: CDLL | None = None
    set: str | None = None
    why: str | None = None


_lock = threading.Lock()
_found: Kernels | None = None


def library() -> CDLL | None:
    """The kernels, compiled if they are not yet; None where there are none. Any thread may ask.

    BadInput where CUTAWAY_KERNELS is no name that there is.
    """
    return kernels().library


def kernels() -> Kernels:
    """The same with the set's name, or why there are none."""
    global _found
    if _found is None:
        with _lock:
            if _found is None:
                found = find_kernels(os.environ.get(VARIABLE, ""))
                if found.why is not None and found.library is None and wanted(os.environ.get(VARIABLE, "")) != OFF:
                    print(f"without kernels, more slowly: {found.why}", file=sys.stderr)
                _found = found
    return _found


def find_kernels(asked: str) -> Kernels:
    """As `kernels`, for a value of CUTAWAY_KERNELS, nothing remembered and nothing said."""
    name = wanted(asked)
    if name == OFF:
        return Kernels(why=f"{VARIABLE}=off")
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return Kernels(why=f"there are none for {platform.machine()}")
    compiler = find()
    if compiler is None:
        return Kernels(why="no C++ compiler is here (g++, clang++ or c++; CXX names another)")
    try:
        chosen = choose(_instruction_sets(compiler), name)
        if chosen is None:
            return Kernels(why=f"this CPU lacks {name or 'AVX2'}")
        return Kernels(library=_load(compiler, chosen), set=chosen)
    except Failed as error:
        return Kernels(why=str(error))


def wanted(asked: str) -> str | None:
    """What a value of CUTAWAY_KERNELS asks for: "off", a set, or None where it leaves it open. Else BadInput."""
    name = asked.strip().lower()
    if name in ("", "on", "auto"):
        return None
    if name != OFF and name not in SETS:
        names = [OFF, *SETS]
        raise BadInput(f'no kernels "{name}"{did_you_mean(name, names)}: {", ".join(names)}', source=VARIABLE)
    return name


def asked_for() -> bool:
    """Whether CUTAWAY_KERNELS asks for kernels: "on", or a set. BadInput for what it does not know."""
    asked = os.environ.get(VARIABLE, "")
    return wanted(asked) != OFF and bool(asked.strip())


def choose(bits: int, name: str | None) -> str | None:
    """The set to run on a CPU that has those of `bits`: the named one, or else the best; None where it has it not."""
    sets = SETS if name is None else {name: SETS[name]}
    return next((name for name, one in sets.items() if bits & one.bit), None)


def sources() -> tuple[Path, ...]:
    """All files that the library is made from, headers too, the probe apart."""
    files = (*FOLDER.glob("*.cpp"), *FOLDER.glob("*.h"))
    return tuple(sorted(file for file in files if file.name != PROBE))


def _instruction_sets(compiler: Compiler) -> int:
    probe = _open(compiled("cpu", (FOLDER / PROBE, FOLDER / "export.h"), COMMON, compiler))
    return int(probe.instruction_sets())


def _load(compiler: Compiler, name: str) -> CDLL:
    opened = _open(compiled(f"kernels-{name}", sources(), (*COMMON, *SETS[name].flags), compiler))
    pointer, number = ctypes.c_void_p, ctypes.c_int
    opened.multiply.argtypes = (pointer, pointer, number, pointer, number, number, number)
    pool = _pool()
    if pool is not None:
        opened.borrow_pool(*pool)
    return opened


def _open(path: Path) -> CDLL:
    try:
        return CDLL(str(path))
    except OSError as error:
        first = str(error).partition("\n")[0]
        raise Failed(f"what was compiled does not load: {first}") from error


@lru_cache(maxsize=1)
def _pool() -> tuple[ctypes.c_void_p, ...] | None:
    """The addresses of three functions of the OpenMP library that torch has loaded; None where it has none such."""
    names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
    beside = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    for place in (None, *map(str, beside)):  # None: all that is loaded for everybody to see
        try:
            opened = CDLL(place)
            return tuple(ctypes.cast(getattr(opened, name), ctypes.c_void_p) for name in names)
        except (OSError, AttributeError, TypeError):  # TypeError: Windows has no such place
            continue
    return None
