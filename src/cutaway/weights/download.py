"""One wheel from whatever package index this machine's pip is set up to use.

pip runs as a process of its own, so that the user's configuration, mirrors, proxies and certificates are honoured and
nothing of it is loaded here. It is told to take that one wheel, to build nothing, and to install nothing.

Read next: weights/wheel.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cutaway.base.errors import NotFound
from cutaway.base.progress import byte_bar

LOOK_EVERY = 0.2  # seconds between two looks at the growing file
PATIENCE = 5.0  # seconds that pip is given to end by itself when it is stopped
UNREACHABLE = re.compile(
    r"NewConnectionError|NameResolutionError|ProxyError|SSLError|Timeout|timed out|Max retries|"
    r"Temporary failure|Network is unreachable|[Cc]onnection (?:refused|reset|aborted|broken)|Could not fetch URL"
)


@dataclass(frozen=True, kw_only=True)
class Package:
    """A wheel by exact version, its bytes, and which of its members belong to which file in the cache.

    Packages that give to one file are joined in their order.
    """

    name: str
    version: str
    size: int
    gives: tuple[tuple[str, str], ...]  # (path inside the wheel, name in the cache)

    @property
    def pinned(self) -> str:
        return f"{self.name}=={self.version}"


def download(package: Package, folder: Path) -> Path:
    """Bring the wheel of `package` into `folder`, showing a bar; returns its path.

    Raises NotFound, in one line that says what to do, when there is no pip, no network, no such package or no room.
    """
    if find_spec("pip") is None:
        raise NotFound(
            f"fetching {package.pinned} needs pip, which this Python ({sys.executable}) does not have: run "
            f'"{sys.executable}" -m ensurepip, or in an environment made by uv: uv pip install pip'
        )
    arrived, scratch, log = folder / "wheels", folder / "scratch", folder / "pip.log"
    for each in (arrived, scratch):
        each.mkdir(parents=True, exist_ok=True)
    with byte_bar(f"fetching {package.pinned}", package.size) as advance, log.open("wb") as errors:
        process = subprocess.Popen(
            _command(package, arrived),
            # pip downloads into its temporary folder first: ours, where the file can be watched and is cleaned up.
            env={**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch)), "PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        seen = 0
        try:
            while not _ended(process):
                size = _largest(folder.rglob("*.whl"))
                advance(max(0, size - seen))
                seen = max(seen, size)
        finally:
            _stop(process)
    wheels = sorted(arrived.glob("*.whl"))
    if process.returncode != 0 or len(wheels) != 1:
        raise NotFound(f"could not fetch {package.pinned}: {_reason(log.read_text('utf-8', 'replace'), package)}")
    return wheels[0]


def _command(package: Package, arrived: Path) -> list[str]:
    # -P: a file called pip.py in the user's current folder is not pip. No cache: it would keep a second copy for ever.
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    return [
        *command, "--no-cache-dir", "--no-deps", "--only-binary", ":all:", "--dest", str(arrived), package.pinned,
    ]  # fmt: skip


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(timeout=LOOK_EVERY)
    except subprocess.TimeoutExpired:
        return False
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _largest(paths: Iterable[Path]) -> int:
    sizes = [0]
    for path in paths:
        try:
            sizes.append(path.stat().st_size)
        except OSError:  # pip moved it between the listing and the look
            continue
    return max(sizes)


def _reason(log: str, package: Package) -> str:
    """What went wrong and what to do about it, from what pip wrote to stderr."""
    if "No space left" in log or "Disk quota exceeded" in log:
        return "the disk is full; free some room, or set CUTAWAY_HOME to a folder on another disk"
    if "No module named pip" in log:
        return f'no pip; run "{sys.executable}" -m ensurepip'
    if UNREACHABLE.search(log):
        return "pip cannot reach its package index; check the network, and pip's index and proxy (`pip config list`)"
    if "No matching distribution" in log:
        return (
            f"pip finds no {package.name} {package.version}; check that this machine is online, "
            "and which index pip asks (`pip config list`)"
        )
    lines = [line.removeprefix("ERROR: ").strip() for line in log.splitlines() if line.strip()]
    return f"pip says: {lines[-1][:300]}" if lines else "pip failed without a word"
