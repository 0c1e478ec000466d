"""The figures of a run for TensorBoard, beside metrics.jsonl, which has them all anyway.

Read next: train/metrics.py
"""

from __future__ import annotations

from pathlib import Path

from cutaway.base.errors import MissingExtra
from cutaway.train.metrics import Line


class Events:
    """Event files in `folder`, for `tensorboard --logdir`. Raises MissingExtra without the package tensorboardX."""

    def __init__(self, folder: Path):
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise MissingExtra("tensorboardX", "tensorboard") from error
        self._writer = SummaryWriter(str(folder))

    def add(self, line: Line) -> None:
        """Every number of a line, at its step."""
        for name, value in line.items():
            if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool):
                self._writer.add_scalar(name, value, line["step"])

    def close(self) -> None:
        self._writer.close()
