"""How much more memory a stretch of work held at its peak than was held before it, as the system counts pages.

Linux forgets a process's peak when asked to, and tells it in /proc. Other systems only ever tell the highest peak since
the process began: there the work has to come before anything larger, so it is measured in a fresh process.
Read next: lab/compare/alone.py
"""

from __future__ import annotations

import sys
from pathlib import Path

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peak:
    """Counts from where it is made."""

    def __init__(self) -> None:
        self._linux = _forgotten()
        self._before = _status("VmRSS") if self._linux else highest()

    def above(self) -> int | None:
        """Bytes at the peak since then, beyond those held at the beginning; None where the system does not say."""
        now = _status("VmHWM") if self._linux else highest()
        return None if now is None or self._before is None else max(0, now - self._before)


def highest() -> int | None:
    """The most bytes of memory that this process has held."""
    if sys.platform == "win32":
        return _windows()
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _forgotten() -> bool:
    """Whether the system has forgotten the peak so far."""
    try:
        FORGET.write_text("5", encoding="utf-8")
        return _status("VmHWM") is not None
    except OSError:
        return False


def _status(name: str) -> int | None:
    for line in STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _windows() -> int | None:
    import ctypes

    class Counters(ctypes.Structure):  # PROCESS_MEMORY_COUNTERS of the Windows API
        _fields_ = [("size", ctypes.c_ulong), ("faults", ctypes.c_ulong), ("peak", ctypes.c_size_t)] + [
            (name, ctypes.c_size_t) for name in ("now", "a", "b", "c", "d", "paged", "most_paged")
        ]

    counters = Counters(size=ctypes.sizeof(Counters))
    try:
        kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        told = kernel.K32GetProcessMemoryInfo(
            ctypes.c_void_p(kernel.GetCurrentProcess()), ctypes.byref(counters), counters.size
        )
    except (AttributeError, OSError):
        return None
    return counters.peak if told else None
