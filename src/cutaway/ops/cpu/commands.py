"""Runs other programs, compilers above all: several at a time, until the first that fails.

Read next: ops/cpu/compiler.py
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress

from cutaway.base.errors import CutawayError

LONG = 600.0  # seconds after which a program that has not come back is given up
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has but one way


class Failed(CutawayError):
    """Something could not be made; the text says why in one line."""


class Running:
    """The programs that run now; from `end` on none does."""

    def __init__(self) -> None:
        self._processes: set[subprocess.Popen[str]] = set()
        self._ended = False
        self._lock = threading.Lock()

    def add(self, process: subprocess.Popen[str]) -> None:
        with self._lock:
            self._processes.add(process)
            if self._ended:  # it was begun while the others were being ended
                _end(process, signal.SIGTERM)

    def remove(self, process: subprocess.Popen[str]) -> None:
        with self._lock:
            self._processes.discard(process)

    def end(self) -> None:
        with self._lock:
            self._ended = True
            for process in self._processes:
                _end(process, signal.SIGTERM)  # at which a compiler still removes its temporary files


def finished(commands: Sequence[Sequence[str]], at_once: int) -> Iterator[int]:
    """Runs all commands, so many at once; yields the place of each as it is done.

    The first that fails ends the others and raises Failed, with that line of its output which tells what is wrong.
    """
    running = Running()
    with ThreadPoolExecutor(max(1, at_once)) as pool:
        jobs = {pool.submit(_one, command, running): place for place, command in enumerate(commands)}
        try:
            for job in as_completed(jobs):
                job.result()
                yield jobs[job]
        finally:
            for job in jobs:
                job.cancel()
            running.end()


def output(command: Sequence[str], timeout: float) -> str | None:
    """What a program prints; None where it does not run, fails, or takes longer than `timeout` seconds."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def _one(command: Sequence[str], running: Running) -> None:
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            process_group=0 if hasattr(os, "killpg") else None,
        )
    except OSError as error:
        raise Failed(f"{command[0]} does not run: {error.strerror or error}") from error
    running.add(process)
    try:
        said, _ = process.communicate(timeout=LONG)
    except subprocess.TimeoutExpired as error:
        _end(process, KILL)
        process.communicate()
        raise Failed(f"{command[0]} did not come back within {LONG:.0f} seconds") from error
    finally:
        running.remove(process)
    if process.returncode != 0:
        raise Failed(f"{command[0]} failed: {_fault(said) or f'exit code {process.returncode}'}")


def _end(process: subprocess.Popen[str], how: int) -> None:
    """Ends a program with all that it began: g++ leaves the work to a program of its own, which would go on without it,
    and whose output we would wait for."""
    if not hasattr(os, "killpg"):
        process.send_signal(how)
    elif process.poll() is None:
        with suppress(ProcessLookupError):  # all have ended meanwhile
            os.killpg(process.pid, how)


def _fault(said: str) -> str:
    """The line of a compiler's output that tells what is wrong."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")
