"""What this machine is: its processor and what that can do, cores, memory, compiler. No torch.

Each system tells it in its own way (Linux: files under /proc and /sys; macOS: sysctl; Windows: the registry and the
kernel's own call). What cannot be learnt is None or empty: nothing here fails.

Read next: lab/measure.py
"""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cutaway.base.cores import CGROUP, cores

# What decides which kernels can run, as Linux spells it -> as we say it.
FEATURES = {
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "avx_vnni": "avx_vnni",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16",
    "avx512_fp16": "avx512_fp16",
    "amx_tile": "amx",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "asimd": "neon",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sme": "sme",
}
# The same on macOS: the name under `hw.optional` -> as we say it.
SYSCTLS = {
    "avx2_0": "avx2",
    "avx512f": "avx512f",
    "neon": "neon",
    "arm.FEAT_DotProd": "dotprod",
    "arm.FEAT_I8MM": "i8mm",
    "arm.FEAT_BF16": "bf16",
    "arm.FEAT_SME": "sme",
}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Memory in bytes; `cores` are those that this process may use."""

    system: str
    processor: str
    features: tuple[str, ...]
    cores: int
    memory: int | None
    memory_free: int | None
    cache: int | None  # bytes of the largest processor cache
    compiler: str | None


def look() -> Machine:
    """Look at this machine (milliseconds, or a second where a compiler is slow to say its version)."""
    memory, free = _memory()
    return Machine(
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        processor=_processor(),
        features=_features(),
        cores=cores(),
        memory=memory,
        memory_free=free,
        cache=_cache(),
        compiler=_compiler(),
    )


def hardware() -> dict[str, str | int | None]:
    """What a folder of figures says about the machine that they were measured on."""
    found = look()
    return {"processor": found.processor, "system": found.system, "cores": found.cores, "memory": found.memory}


def _processor() -> str:
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string") or platform.processor()
    if sys.platform == "win32":
        return _windows_processor() or platform.processor()
    about = _cpuinfo()
    return about.get("model name") or about.get("Model") or platform.processor() or platform.machine()


def _features() -> tuple[str, ...]:
    if sys.platform == "darwin":
        return tuple(name for key, name in SYSCTLS.items() if _sysctl(f"hw.optional.{key}") == "1")
    if sys.platform == "win32":
        return _windows_features()
    about = _cpuinfo()
    present = set((about.get("flags") or about.get("Features") or "").split())
    return tuple(name for flag, name in FEATURES.items() if flag in present)


def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo (and those of the whole board, on ARM)."""
    pairs = (line.partition(":") for line in _read(Path("/proc/cpuinfo")).splitlines())
    about: dict[str, str] = {}
    for key, _, value in pairs:
        about.setdefault(key.strip(), value.strip())
    return about


def _memory() -> tuple[int | None, int | None]:
    """Bytes in all and bytes free for us; a container's limit counts as all there is."""
    if sys.platform == "win32":
        return _windows_memory()
    if sys.platform == "darwin":
        text = _sysctl("hw.memsize")
        return (int(text) if text.isdecimal() else None), None
    lines = (line.split() for line in _read(Path("/proc/meminfo")).splitlines())
    kibibytes = {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}
    total, free = kibibytes.get("MemTotal:"), kibibytes.get("MemAvailable:")
    memory = total * 1024 if total is not None else None
    left = free * 1024 if free is not None else None
    limit, used = _read(CGROUP / "memory.max").strip(), _read(CGROUP / "memory.current").strip()
    if limit.isdecimal() and (memory is None or int(limit) < memory):
        memory = int(limit)
        if used.isdecimal():
            left = min(memory - int(used), memory if left is None else left)
    return memory, left


def _cache() -> int | None:
    if sys.platform == "darwin":
        text = _sysctl("hw.l3cachesize") or _sysctl("hw.l2cachesize")
        return int(text) if text.isdecimal() else None
    sizes = []
    for path in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")):
        text = _read(path).strip()
        if text.endswith("K") and text[:-1].isdecimal():
            sizes.append(int(text[:-1]) * 1024)
    return max(sizes, default=None)


def _compiler() -> str | None:
    """The C++ compiler that kernels are made with, and its own first line about itself."""
    from cutaway.ops.cpu.compiler import find

    found = find()
    return None if found is None else f"{' '.join(found.command)}: {found.version}"


def _sysctl(name: str) -> str:
    return _ask(["sysctl", "-n", name]).strip()


def _ask(command: list[str]) -> str:
    """What a short command prints; nothing if it cannot be run."""
    try:
        answer = subprocess.run(
            command, capture_output=True, timeout=5, stdin=subprocess.DEVNULL, encoding="utf-8", errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _windows_processor() -> str:
    try:
        import winreg

        place = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:  # type: ignore[attr-defined]
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()  # type: ignore[attr-defined]
    except (ImportError, OSError):
        return ""


def _windows_features() -> tuple[str, ...]:
    import ctypes

    # PF_..._INSTRUCTIONS_AVAILABLE of winnt.h; the kernel knows no others.
    numbers = {40: "avx2", 41: "avx512f", 19: "neon", 43: "dotprod"}
    try:
        present = ctypes.windll.kernel32.IsProcessorFeaturePresent  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return ()
    return tuple(name for number, name in numbers.items() if present(number))


def _windows_memory() -> tuple[int | None, int | None]:
    import ctypes

    class Status(ctypes.Structure):  # MEMORYSTATUSEX of the Windows API
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong) for name in ("all", "free", "c", "d", "e", "f", "g")
        ]

    status = Status(length=ctypes.sizeof(Status))
    try:
        done = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return None, None
    return (status.all, status.free) if done else (None, None)
