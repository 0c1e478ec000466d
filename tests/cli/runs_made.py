"""Runs with figures and no training, for the commands that look at runs."""

from __future__ import annotations

from pathlib import Path

from cutaway.recipes.table import made
from cutaway.train.run import Run


def made_run(folder: Path, *changes: str, steps: int = 12) -> Run:
    """A run of `nano` whose loss falls."""
    run = Run.create(folder, "nano", made("nano", list(changes)))
    for step in range(1, steps + 1):
        line = {"step": step, "loss": 4.0 / step, "seconds": step / 2, "tokens": 64, "tokens_per_second": 1000.0}
        run.record(
            line
            | ({"val_loss": 5.0 / step} if step % 4 == 0 else {})
            | ({"word_share": 0.935, "words": 400} if step == steps else {})
        )
    run.sample("before", "山雪在落")
    run.sample("step-00000012", "雪落在山上")
    return run
