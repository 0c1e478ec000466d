"""The kernels of each instruction set, also of one that this CPU has under another name."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from cutaway.ops.cpu.build import VARIABLE, Kernels, find_kernels, load
from cutaway.ops.cpu.compiler import compiled, find
from cutaway.ops.cpu.instructions import COMMON, FOLDER, OFF, ON, PROBE, SETS, ask, choose, sources

# The code for AVX-VNNI on a CPU that has its instruction as part of AVX-512 alone, as Zen 4: with the macro taken away
# the sources believe that registers have 256 bits.
SPELLED = "avx2-vnni-of-avx512"
SPELLED_FLAGS = (*SETS["avx2"].flags, "-mavx512vl", "-mavx512vnni", "-U__AVX512F__")
FORCED = (*SETS, SPELLED)

SANITIZED = "CUTAWAY_TEST_SANITIZED"  # in the environment of tests that run under a sanitizer: the library to run


@lru_cache
def forced(name: str) -> Kernels:
    """Compiled for a set, or for the best ("", which CUTAWAY_KERNELS may say is a lesser one); none where the variable
    turns all off."""
    guarded = os.environ.get(SANITIZED)
    if guarded:
        return Kernels(library=load(Path(guarded)), set="guarded") if not name else Kernels(why="another is guarded")
    asked = os.environ.get(VARIABLE, "").strip().lower()
    if asked == OFF or name != SPELLED:
        return find_kernels(asked if asked == OFF else name or asked or ON)
    compiler = find()
    if compiler is None or choose(ask(compiled("cpu", (FOLDER / PROBE,), COMMON, compiler)), "avx512") is None:
        return Kernels(why="this CPU lacks AVX-512 or a compiler")
    return Kernels(library=load(compiled(f"kernels-{name}", sources(), (*COMMON, *SPELLED_FLAGS), compiler)), set=name)
