"""Early stopping: training ends once validation has not got better for a while.

Prechelt 1998, "Early stopping - but when?".   stop when the best of the last `limit` looks is no better than before
    if patience.look(score.loss): save the best;      if patience.over: break
Read next: train/validation.py
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cutaway.base.errors import BadInput


class Patience:
    """`limit`: how many looks without progress are borne. `least`: what counts as progress, in the loss's own units."""

    def __init__(self, limit: int, *, least: float = 0.0):
        if limit < 1 or not 0.0 <= least < math.inf:
            raise BadInput("must be at least 1 look, and progress no less than 0", field="Patience")
        self.limit, self.least = limit, least
        self.best, self.waited = math.inf, 0

    def look(self, loss: float) -> bool:
        """Whether this is the best so far. A loss that is no number is no progress."""
        better = loss < self.best - self.least if self.best < math.inf else loss < math.inf
        self.best, self.waited = (loss, 0) if better else (self.best, self.waited + 1)
        return better

    @property
    def over(self) -> bool:
        return self.waited >= self.limit

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best if self.best < math.inf else None, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best = math.inf if state["best"] is None else float(state["best"])
        self.waited = int(state["waited"])
