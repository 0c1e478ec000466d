"""What all routes work with: the models, the bounds and the figures.

Read next: serve/app.py
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from cutaway import __version__
from cutaway.serve.bounds import Bounds
from cutaway.serve.metrics import Metrics
from cutaway.serve.roster import Roster
from cutaway.serve.turns import DEADLINE, Turns

FINGERPRINT = f"cutaway-{__version__}"


@dataclass(kw_only=True, eq=False)
class Desk:
    roster: Roster
    bounds: Bounds
    metrics: Metrics
    turns: Turns

    @staticmethod
    def of(request: Request) -> Desk:
        return request.app.state.desk


def deadline(request: Request) -> float:
    """The loop's time at which this request ends."""
    return request.scope[DEADLINE]


def envelope(prefix: str, kind: str, model: str) -> dict[str, Any]:
    """What every reply, and every chunk of one, begins with."""
    named = {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}
    return {**named, "system_fingerprint": FINGERPRINT}
