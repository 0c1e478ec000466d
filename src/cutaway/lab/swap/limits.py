"""What a reader's file may use while it runs: memory, processor time, file sizes, and one folder to write in.

Resource limits and Landlock (Linux 5.13 and later) are kept by the system; an audit hook keeps the folder for Python's
own functions everywhere. They hold off accidents, not attacks. Windows has the hook and the clock of whoever waits.
Read next: lab/swap/child.py
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

FILE_BYTES = 64 * 2**20
FILES = 256
# landlock.h: write, remove and make rights, by the version of the interface that has them.
WRITES = sum(1 << bit for bit in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12))
LATER = {2: 1 << 13, 3: 1 << 14}
CREATE, ADD, RESTRICT, NO_NEW_PRIVILEGES = 444, 445, 446, 38
# Events of Python's own that change files; each has the paths among its arguments.
CHANGES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink", "os.chmod"}


class Rule(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def confine(folder: Path) -> bool:
    """Lets this thread, and those that it starts, write in `folder` alone. False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    system = ctypes.CDLL(None, use_errno=True)
    version = system.syscall(CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return False
    rights = WRITES | sum(right for since, right in LATER.items() if version >= since)
    ruled = ctypes.c_uint64(rights)
    rules = system.syscall(CREATE, ctypes.byref(ruled), ctypes.c_size_t(8), ctypes.c_uint32(0))
    if rules < 0:
        return False
    for path, allowed in ((folder, rights), (Path(os.devnull), 1 << 1)):
        place = os.open(path, os.O_PATH)
        rule = Rule(allowed=allowed, folder=place)
        system.syscall(ADD, rules, ctypes.c_int(1), ctypes.byref(rule), ctypes.c_uint32(0))
        os.close(place)
    system.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    done = system.syscall(RESTRICT, rules, ctypes.c_uint32(0))
    os.close(rules)
    return done == 0


def watch_writes(folder: Path) -> None:
    """From now on Python's own functions write in `folder` alone: PermissionError elsewhere. Cannot be taken back."""
    inside = Path(os.path.realpath(folder))

    def allowed(path: Any) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return True  # a file that is open already
        place = os.path.realpath(os.fsdecode(path))
        return place == os.devnull or Path(place).is_relative_to(inside)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = isinstance(mode, str) and bool(set(mode) & set("wax+"))
            writes |= isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
            paths = [path] if writes else []
        elif event in CHANGES:
            paths = [one for one in arguments[:2] if isinstance(one, (str, bytes, os.PathLike))]
        else:
            return
        for path in paths:
            if not allowed(path):
                raise PermissionError(f"{os.fsdecode(path)} may not be written: only the folder {inside} may")

    sys.addaudithook(watch)


def bound(memory: int, seconds: float | None) -> list[str]:
    """Sets the system's limits: `memory` bytes beyond what is held now, `seconds` of processor time from now on.

    Returns what could not be limited here.
    """
    try:
        import resource
    except ImportError:
        return ["memory", "processor time", "file sizes"]
    now = time.process_time()
    wanted = {
        "RLIMIT_AS": _held() + memory,
        "RLIMIT_FSIZE": FILE_BYTES,
        "RLIMIT_NOFILE": FILES,
        "RLIMIT_CORE": 0,
        **({} if seconds is None else {"RLIMIT_CPU": int(now + seconds) + 2}),
    }
    failed = []
    for name, value in wanted.items():
        kind = getattr(resource, name, None)
        try:
            if kind is None:
                raise ValueError(name)
            _, hard = resource.getrlimit(kind)
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, hard))
        except (ValueError, OSError):
            failed.append(name.removeprefix("RLIMIT_"))
    return ["memory" if name == "AS" else name for name in failed]


def _held() -> int:
    """Bytes of address space now."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 64 * 2**30  # macOS reserves tens of gigabytes that it never uses


def leave_with_parent() -> None:
    """Ends this process when the one that started it is gone."""
    if os.name == "nt":
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
