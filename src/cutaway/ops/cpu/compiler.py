"""Finds the machine's C++ compiler, and makes shared libraries with it: each source once, for a compiler and its flags.

A library's file name ends in a hash of all that it was made from, an object's (a source file, compiled) in one of that
file, the headers that it includes, and the flags: a change of one source compiles that one anew. A file under its name
is whole and right. One lock keeps two processes from compiling at once; the system lets it go when its process dies,
however it dies. What failed is noted beside where the library would lie, so that nobody tries again within a day.
Read next: ops/cpu/first_use.py
"""

from __future__ import annotations

import errno
import getpass
import hashlib
import os
import platform
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cutaway.base.cores import cores
from cutaway.base.paths import atomic, expand, home
from cutaway.ops.cpu.commands import Failed, finished, output

__all__ = ["Compiler", "Failed", "being_made", "compiled", "fault", "find", "lack", "made", "nowhere"]

NAMES = ("g++", "clang++", "c++")
SUFFIX = ".dll" if sys.platform == "win32" else ".so"
FOLDER = "CUTAWAY_KERNELS_HOME"  # another folder for all of this than `kernels` in the home of base/paths.py
LOCK, NOTE, OBJECTS = "making.lock", ".failed", "objects"
KEPT = 4  # libraries of one name, and objects of one source, that stay: other versions of Cutaway use theirs
AGAIN = 24 * 3600.0  # seconds after which what failed is tried again: a full disk may have room by then

PATIENCE = 60.0  # seconds that one process waits for another that compiles

Told = Callable[[int, int], None]  # how many files are done, of how many


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """`command`: the program and whatever the person always wants told to it. `version`: what it says of itself."""

    command: tuple[str, ...]
    version: str


def find() -> Compiler | None:
    """What CXX names, or the first of g++, clang++ and c++ that runs; None where there is none."""
    named = _named()
    for command in [_command(named)] if named else [(name,) for name in NAMES]:
        if shutil.which(command[0]) is None:
            continue
        answer = output([*command, "--version"], timeout=60)
        if answer is not None:
            return Compiler(command=command, version=answer.partition("\n")[0].strip())
    return None


def lack() -> str:
    """Why there is none, where `find` finds none."""
    if named := _named():
        return f'CXX names "{named}", which is no C++ compiler that runs here'
    return "no C++ compiler is here (g++, clang++ or c++; CXX names another)"


def _named() -> str:
    return os.environ.get("CXX", "").strip()


def _command(named: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(named))
    except ValueError:  # a quotation that does not end
        return (named,)


def made(name: str, files: Sequence[Path], flags: Sequence[str], compiler: Compiler) -> Path | None:
    """The shared library that `compiled` would give, where it lies there already."""
    file = _file(name, files, flags, compiler)
    return next((folder / file for folder in _folders() if (folder / file).is_file()), None)


def fault(name: str, files: Sequence[Path], flags: Sequence[str], compiler: Compiler) -> str | None:
    """Why it could not be made when that was last tried; None where it was not, or more than a day ago."""
    note = Path(_file(name, files, flags, compiler)).with_suffix(NOTE)
    for folder in _folders():
        with suppress(OSError):
            if time.time() - (folder / note).stat().st_mtime < AGAIN:
                return (folder / note).read_text(encoding="utf-8").strip()
    return None


def being_made() -> bool:
    """Whether some process is compiling now."""
    from filelock import FileLock, Timeout

    for folder in _folders():
        try:
            if (folder / LOCK).is_file():
                with FileLock(folder / LOCK, timeout=0):
                    pass
        except Timeout:
            return True
        except (OSError, NotImplementedError):  # not ours, or no locks here: nobody to wait for
            continue
    return False


def compiled(
    name: str, files: Sequence[Path], flags: Sequence[str], compiler: Compiler, told: Told = lambda done, all: None
) -> Path:
    """The shared library made of `files` (.cpp; headers may be among them); made now if it is not there yet.

    Raises Failed where the compiler does, or where no folder can be written to.
    """
    file = _file(name, files, flags, compiler)
    reasons = []
    for folder in (_home, _temporary):
        try:
            path = folder() / file
            _make_once(path, name, [one for one in files if one.suffix == ".cpp"], flags, compiler, told)
            return path
        except (OSError, NotImplementedError) as error:  # read-only, full, or without locks
            reasons.append(getattr(error, "strerror", None) or str(error))
    raise Failed(f"no folder for compiled kernels: {'; '.join(reasons)}")


def nowhere() -> str | None:
    """Why there is no folder to compile into; None where there is one."""
    reasons = []
    for folder in (_home, _temporary):
        try:
            place = folder()
            place.mkdir(parents=True, exist_ok=True)
            if os.access(place, os.W_OK):
                return None
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            reasons.append(error.strerror or str(error))
    return "; ".join(reasons)


def _make_once(
    path: Path, name: str, files: Sequence[Path], flags: Sequence[str], compiler: Compiler, told: Told
) -> None:
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _turn(path.parent / LOCK):
        if path.is_file():  # another process made it while we waited
            return
        note = path.with_suffix(NOTE)
        try:
            with atomic(path) as partial:
                _make(partial, path.parent / OBJECTS, name, files, flags, compiler, told)
        except Failed as error:
            note.write_text(f"{error}\n", encoding="utf-8")
            raise
        note.unlink(missing_ok=True)
        _forget(path.parent, name, SUFFIX)


@contextmanager
def _turn(lock: Path) -> Iterator[None]:
    """Waits until nobody else compiles, but not for ever: a process of low priority may hardly get to it on a busy
    machine. Two at once do the same work twice, and no harm: a file is put in its place when it is whole."""
    from filelock import FileLock, Timeout

    held = FileLock(lock, timeout=PATIENCE)
    with ExitStack() as stack:
        with suppress(Timeout):
            stack.enter_context(held)
        yield


def _make(
    path: Path, objects: Path, name: str, files: Sequence[Path], flags: Sequence[str], compiler: Compiler, told: Told
) -> None:
    """Compiles each file that was not yet, as many at once as there are cores, and links them."""
    place = () if sys.platform == "win32" else ("-fPIC",)
    objects.mkdir(exist_ok=True)
    wanted = {file: objects / _object(name, file, flags, compiler) for file in files}
    left = [(file, made) for file, made in wanted.items() if not made.is_file()]
    partials = [made.with_suffix(f".{os.getpid()}.o") for _, made in left]
    commands = [
        [*compiler.command, *flags, *place, "-c", str(file), "-o", str(partial)]
        for (file, _), partial in zip(left, partials, strict=True)
    ]
    # The largest first: the last one to end should not be the one that takes longest.
    order = sorted(range(len(left)), key=lambda index: -left[index][0].stat().st_size)
    told(0, len(left) + 1)
    try:
        for done, place_of in enumerate(finished([commands[index] for index in order], cores()), 1):
            index = order[place_of]
            file, made = left[index]
            if _object(name, file, flags, compiler) != made.name:
                raise Failed(f"{file.name} was edited while it was compiled")
            partials[index].replace(made)
            told(done, len(left) + 1)
    finally:
        for partial in partials:
            partial.unlink(missing_ok=True)
    for _ in finished([[*compiler.command, *flags, "-shared", *map(str, wanted.values()), "-o", str(path)]], 1):
        told(len(left) + 1, len(left) + 1)
    for file, _ in left:
        _forget(objects, f"{name}-{file.stem}", ".o")


def _forget(folder: Path, name: str, suffix: str) -> None:
    """Removes what is older than the last few of a name."""
    found = [
        file for file in folder.glob(f"{name}-*{suffix}") if re.fullmatch("[0-9a-f]{20}", file.stem[len(name) + 1 :])
    ]
    for old in sorted(found, key=lambda file: file.stat().st_mtime, reverse=True)[KEPT:]:
        with suppress(OSError):  # Windows keeps a library that a process has loaded
            old.unlink()


def _file(name: str, files: Sequence[Path], flags: Sequence[str], compiler: Compiler) -> str:
    return f"{name}-{_key(files, flags, compiler)}{SUFFIX}"


def _object(name: str, file: Path, flags: Sequence[str], compiler: Compiler) -> str:
    return f"{name}-{file.stem}-{_key([file], flags, compiler)}.o"


def _key(files: Sequence[Path], flags: Sequence[str], compiler: Compiler) -> str:
    parts = [*flags, *compiler.command, compiler.version, platform.machine(), platform.system()]
    digest = hashlib.sha256("\0".join(parts).encode())
    for file in sorted({one for given in files for one in _included(given)}):
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:20]


def _included(file: Path) -> Iterator[Path]:
    """A source file and all headers of ours that it includes, and those include."""
    found, left = set(), [file]
    while left:
        one = left.pop()
        if one in found or not one.is_file():
            continue
        found.add(one)
        yield one
        names = re.findall(rb'^\s*#\s*include\s+"([^"]+)"', one.read_bytes(), re.MULTILINE)
        left += [one.parent / name.decode() for name in names]


def _folders() -> Iterator[Path]:
    """Where libraries may lie, as far as these folders are there; nothing is made."""
    yield _home()
    folder = _own_temporary()
    if folder.is_dir() and _trusted(folder):
        yield folder


def _home() -> Path:
    chosen = os.environ.get(FOLDER, "").strip()
    return expand(chosen).absolute() if chosen else home() / "kernels"


def _temporary() -> Path:
    """A folder for temporary files that is this person's alone: nobody else may lay a library there for us to load."""
    folder = _own_temporary()
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _trusted(folder):
        raise PermissionError(errno.EACCES, "others may write there", str(folder))
    return folder


def _own_temporary() -> Path:
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's nameless user
        name = str(os.getuid()) if hasattr(os, "getuid") else "nobody"
    return Path(tempfile.gettempdir()) / f"cutaway-kernels-{name}"


def _trusted(folder: Path) -> bool:
    if not hasattr(os, "getuid"):
        return True
    kept = folder.lstat()
    return not folder.is_symlink() and kept.st_uid == os.getuid() and not kept.st_mode & 0o077
