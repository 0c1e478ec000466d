"""Finds the machine's C++ compiler, and makes shared libraries with it: once for the same sources, compiler and flags.

A library's file name ends in a hash of all that it was made from; a file under that name is whole and right. A lock
keeps two processes from compiling the same at once; the system lets it go when its process dies, however it dies.
Read next: ops/cpu/build.py
"""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cutaway.base.cores import cores
from cutaway.base.errors import CutawayError
from cutaway.base.paths import atomic, home

NAMES = ("g++", "clang++", "c++")
SUFFIX = ".dll" if sys.platform == "win32" else ".so"
LONG = 600.0  # seconds after which a compiler that has not come back is given up


class Failed(CutawayError):
    """A library could not be made; the text says why in one line."""


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """`command`: the program and whatever the person always wants told to it. `version`: what it says of itself."""

    command: tuple[str, ...]
    version: str


def find() -> Compiler | None:
    """What CXX names, or the first of g++, clang++ and c++ that runs; None where there is none."""
    named = os.environ.get("CXX", "").strip()
    commands = [tuple(shlex.split(named))] if named else [(name,) for name in NAMES]
    for command in commands:
        if shutil.which(command[0]) is None:
            continue
        try:
            answer = _run([*command, "--version"], timeout=60)
        except (OSError, subprocess.SubprocessError):
            continue
        if answer.returncode == 0:
            return Compiler(command=command, version=answer.stdout.partition("\n")[0].strip())
    return None


def compiled(name: str, files: Sequence[Path], flags: Sequence[str], compiler: Compiler) -> Path:
    """The shared library made of `files` (.cpp, and the .h that they include); made now if it is not there yet.

    Raises Failed where the compiler does, or where no folder can be written to.
    """
    file = f"{name}-{_key(files, flags, compiler)}{SUFFIX}"
    reasons = []
    for folder in (lambda: home() / "kernels", _temporary):
        try:
            return _made(folder() / file, files, flags, compiler)
        except OSError as error:  # a home that is read-only or full
            reasons.append(error.strerror or str(error))
    raise Failed(f"no folder for compiled kernels: {'; '.join(reasons)}")


def _made(path: Path, files: Sequence[Path], flags: Sequence[str], compiler: Compiler) -> Path:
    from filelock import FileLock

    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():  # or another process made it while we waited
            if path.name.startswith("kernels"):
                print("compiling kernels for this CPU, once: half a minute or so", file=sys.stderr)
            with atomic(path) as partial:
                _make(partial, [file for file in files if file.suffix == ".cpp"], flags, compiler)
    return path


def _make(path: Path, files: list[Path], flags: Sequence[str], compiler: Compiler) -> None:
    """Compiles each file by itself, as many at once as there are cores, and links them."""
    place = () if sys.platform == "win32" else ("-fPIC",)
    with tempfile.TemporaryDirectory(prefix="cutaway-") as scratch:
        objects = [Path(scratch) / f"{file.stem}.o" for file in files]
        commands = [
            [*compiler.command, *flags, *place, "-c", str(file), "-o", str(made)]
            for file, made in zip(files, objects, strict=True)
        ]
        _run_all(commands, cores())
        _run_all([[*compiler.command, *flags, "-shared", *map(str, objects), "-o", str(path)]], 1)


def _run_all(commands: list[list[str]], at_once: int) -> None:
    """Runs all commands; the first that fails ends the others and raises Failed with its first line that says error."""
    running: list[tuple[subprocess.Popen[str], list[str]]] = []
    left = list(reversed(commands))
    try:
        while left or running:
            while left and len(running) < at_once:
                command = left.pop()
                running.append((_start(command), command))
            process, command = running.pop(0)
            try:
                said, _ = process.communicate(timeout=LONG)
            except BaseException:
                running.append((process, command))
                raise
            if process.returncode != 0:
                raise Failed(f"{command[0]} failed: {_fault(said) or f'exit code {process.returncode}'}")
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{error.cmd[0]} did not come back within {LONG:.0f} seconds") from error
    finally:
        for process, _ in running:
            process.kill()
            process.communicate()


def _start(command: list[str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise Failed(f"{command[0]} does not run: {error.strerror or error}") from error


def _run(command: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def _fault(said: str) -> str:
    """The line of a compiler's output that tells what is wrong."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")


def _key(files: Sequence[Path], flags: Sequence[str], compiler: Compiler) -> str:
    parts = [*flags, *compiler.command, compiler.version, platform.machine(), platform.system()]
    digest = hashlib.sha256("\0".join(parts).encode())
    for file in files:
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:20]


def _temporary() -> Path:
    """A folder for temporary files that is this person's alone: nobody else may lay a library there for us to load."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's nameless user
        name = str(os.getuid()) if hasattr(os, "getuid") else "nobody"
    folder = Path(tempfile.gettempdir()) / f"cutaway-kernels-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid"):
        kept = folder.lstat()
        if folder.is_symlink() or kept.st_uid != os.getuid() or kept.st_mode & 0o077:
            return Path(tempfile.mkdtemp(prefix="cutaway-kernels-"))
    return folder
