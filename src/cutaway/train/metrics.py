"""The figures of a run: one JSON object a line, one line a step, appended as they come.

A process may be killed in the middle of a line: a last line that is no whole object is passed over, and dropped when
the run goes on.   Read next: train/run.py
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.base.paths import atomic

Line = dict[str, Any]


class Metrics:
    """The file metrics.jsonl. `append` hands each line to the system at once: a killed process loses none."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, line: Line) -> None:
        """Adds the figures of one step, which says at least `step` and `loss`. What is not finite becomes null."""
        told = {name: _finite(value) for name, value in line.items()}
        with self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(told, ensure_ascii=False) + "\n")

    def read(self) -> list[Line]:
        """All whole lines. Raises BadInput naming a line, other than the last, that is no object with a step."""
        return [line for line, _ in self._lines()]

    def truncate(self, step: int) -> None:
        """Forgets what was written after `step`: the run goes on from there and makes those steps again."""
        if not self.path.exists():
            return
        kept = b"".join(raw + b"\n" for line, raw in self._lines() if line["step"] <= step)
        if kept != self.path.read_bytes():
            with atomic(self.path) as partial:
                partial.write_bytes(kept)

    def _lines(self) -> list[tuple[Line, bytes]]:
        if not self.path.exists():
            return []
        *whole, rest = self.path.read_bytes().split(b"\n")
        lines = []
        for number, raw in enumerate(whole, start=1):
            line = _parsed(raw)
            if line is not None:
                lines.append((line, raw))
            elif number < len(whole) or rest:  # a torn line can only be the last
                raise BadInput("is no JSON object with a step", source=self.path, field=f"line {number}")
        return lines


def _parsed(raw: bytes) -> Line | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("step"), int) else None


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
