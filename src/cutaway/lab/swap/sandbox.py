"""A process of its own for a reader's file, and what its end means.

It is started in a folder of its own, told what to do in a line of JSON, and killed with all its children when its time
is over or whoever waits leaves.
Read next: lab/swap/child.py, lab/swap/limits.py
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from cutaway.base import errors
from cutaway.base.errors import BadInput, CutawayError
from cutaway.infer.answer import Piece
from cutaway.lab.swap.verdict import Verdict

MEMORY = 4 * 2**30
STARTING = 900.0  # seconds in which torch has to be imported and a model opened, on a busy machine
PRINTED = 600  # characters of what a file prints that are kept


class Ended(Exception):
    """The process is gone, or was ended: the verdict that follows from how."""

    def __init__(self, verdict: Verdict):
        super().__init__(verdict.message)
        self.verdict = verdict


class Sandbox:
    """`order`: what `child` is told: do, part, path, function, threads, seconds, timed, and the model to talk with."""

    def __init__(self, order: dict[str, Any], *, memory: int = MEMORY):
        self.part, self.seconds, self.memory = order["part"], float(order["seconds"]), memory
        self.folder = tempfile.TemporaryDirectory(prefix="cutaway-swap-", ignore_cleanup_errors=True)
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.printed = ""
        source = str(Path(errors.__file__).parents[2])
        paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUTF8": "1",
            **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), self.folder.name),
        }
        apart: dict[str, Any] = {"start_new_session": True}
        if os.name == "nt":
            apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cutaway.lab.swap.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder.name,
            env=environment,
            encoding="utf-8",
            errors="replace",
            **apart,
        )
        for target in (self._read_lines, self._read_printed):
            threading.Thread(target=target, daemon=True).start()
        self.send({**order, "folder": self.folder.name, "memory": memory})
        self.unlimited: tuple[str, ...] = ()
        self.started = False

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *about: object) -> None:
        self.kill()
        self.folder.cleanup()

    def send(self, order: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # it is gone: `take` says how
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()

    def start(self) -> None:
        """Waits until the file may run. Raises BadInput for a model that cannot be talked with, CutawayError where the
        process could not even start."""
        answer = self._next(time.monotonic() + STARTING)
        if isinstance(answer, dict) and "refused" in answer:
            raise BadInput(answer["refused"])
        if not isinstance(answer, dict) or "ready" not in answer:
            self.kill()
            raise CutawayError(f"the process for your file did not start: {self.printed.strip()[-300:]}")
        self.unlimited, self.started = tuple(answer["unlimited"]), True

    def answers(self, seconds: float | None = None) -> Iterator[dict[str, Any]]:
        """What the process says, each within `seconds` of the one before. Raises Ended where it ends or is late."""
        if not self.started:
            self.start()
        seconds, at = seconds or self.seconds, "the file itself"
        while True:
            answer = self._next(time.monotonic() + seconds)
            if answer is None:
                raise Ended(self._end(at))
            if answer == "late":
                self.kill()
                said = f"no end after {seconds:g} s, at {at}: an endless loop, or too slow (--seconds gives more)"
                raise Ended(Verdict(part=self.part, outcome="time", message=said))
            assert isinstance(answer, dict)
            at = answer.get("at", at)
            yield answer

    def _next(self, until: float) -> dict[str, Any] | str | None:
        """The next line; None at the end of them, "late" where none came in time."""
        try:
            line = self.lines.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return "late"
        try:
            return None if line is None else json.loads(line)
        except json.JSONDecodeError:  # cut off in the middle of a line
            return None

    def _end(self, at: str) -> Verdict:
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            code = 0
        self.kill()
        if (code >= 0 and os.name != "nt") or code == 0:
            said = f"it ended the process with code {code}, at {at} (os._exit?)"
            return Verdict(part=self.part, outcome="exits", message=said)
        name = signal.Signals(-code).name if code < 0 else hex(code)
        if name == "SIGXCPU":
            return Verdict(part=self.part, outcome="time", message=f"its processor time was over, at {at}")
        hint = " (out of memory?)" if name in ("SIGKILL", "SIGABRT") else ""
        return Verdict(part=self.part, outcome="crashes", message=f"the process crashed with {name}, at {at}{hint}")

    def interrupt(self) -> None:
        """As Ctrl-C would: the answer that is being given ends. Kills the process where it does not listen."""
        if os.name == "nt":
            self.kill()
            return
        with suppress(OSError):
            self.process.send_signal(signal.SIGINT)
        until = time.monotonic() + 10
        while (answer := self._next(until)) not in (None, "late"):
            if isinstance(answer, dict) and "piece" not in answer:
                return
        self.kill()

    def kill(self) -> None:
        """The process and all that it started."""
        if os.name == "nt":
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(self.process.pid)], capture_output=True, check=False)
        else:
            with suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        with suppress(OSError):
            if self.process.stdin is not None:
                self.process.stdin.close()

    def _read_lines(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self.lines.put(line)
        self.lines.put(None)

    def _read_printed(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            while text := stream.read(512):
                self.printed = (self.printed + text)[:PRINTED]


class Remote:
    """A `Language` as a conversation needs one, in a sandbox. `seconds`: the longest wait for a token."""

    def __init__(self, sandbox: Sandbox):
        self.sandbox = sandbox

    def continuation(self) -> None:
        """The process keeps its own cache."""

    def stream(self, prompt: Any, held: None = None, **options: Any) -> Iterator[Piece]:
        self.sandbox.send({"prompt": prompt, "options": options})
        try:
            while True:
                answer = next(self.sandbox.answers())
                if "piece" in answer:
                    yield Piece(**answer["piece"])
                elif "refused" in answer:
                    raise BadInput(answer["refused"])
                elif "verdict" in answer:
                    raise Ended(Verdict.of(answer["verdict"]))
                elif "end" in answer:
                    return
        except KeyboardInterrupt:
            self.sandbox.interrupt()
            raise
