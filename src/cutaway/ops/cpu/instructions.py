"""Which instruction sets kernels are compiled for, and which of them this CPU and its system have.

The CPU is asked by a library of its own, cpu.cpp, that is compiled for any CPU: nothing of a set is compiled, opened or
run before the answer. Without torch, so that the process which compiles is small.
Read next: ops/cpu/first_use.py, ops/cpu/cpu.cpp
"""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import CDLL
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.ops.cpu.commands import Failed

FOLDER = Path(__file__).parent
VARIABLE = "CUTAWAY_KERNELS"
OFF, ON = "off", "on"
PROBE = "cpu.cpp"
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


def wanted(asked: str) -> str | None:
    """What a value of CUTAWAY_KERNELS asks for: "off", "on", a set, or None where it leaves it open. Else BadInput."""
    name = asked.strip().lower()
    if not name:
        return None
    if name not in (OFF, ON) and name not in SETS:
        names = [OFF, ON, *SETS]
        raise BadInput(f'no kernels "{name}"{did_you_mean(name, names)}', source=VARIABLE)
    return name


def choose(bits: int, name: str | None) -> str | None:
    """The set to run on a CPU that has those of `bits`: the named one, or else the best; None where it has it not."""
    sets = SETS if name is None else {name: SETS[name]}
    return next((name for name, one in sets.items() if bits & one.bit), None)


def sources() -> tuple[Path, ...]:
    """All files that the library is made from, headers too, the probe apart."""
    files = (*FOLDER.glob("*.cpp"), *FOLDER.glob("*.h"))
    return tuple(sorted(file for file in files if file.name != PROBE))


def ask(probe: Path) -> int:
    """What the CPU has, the bits of SETS, by the library made of cpu.cpp. Raises Failed where it does not load."""
    return int(opened(probe).instruction_sets())


def opened(path: Path) -> CDLL:
    """A library that was compiled. Raises Failed where it does not load."""
    try:
        return CDLL(str(path))
    except OSError as error:
        first = str(error).partition("\n")[0]
        raise Failed(f"what was compiled does not load: {first}") from error
