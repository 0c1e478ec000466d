"""How much the server lets a stranger ask for: one value, checked when it is made.

Read next: serve/turns.py, serve/asking.py
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from cutaway.base.errors import BadInput

WHOLE = {"body": 1, "samples": 1, "prompts": 1, "texts": 1, "tops": 0, "stops": 0, "running": 1, "waiting": 0}


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """`body`: bytes of a request. `prompt`, `output`: tokens of a prompt, of an answer; None: what the model can read,
    and what it has room for. `prompts`, `texts`: most in one list, to continue and to embed. `samples`: answers to one
    prompt. `tops`: alternatives of a token. `stops`: stop texts. `running`: requests at once; `waiting`: those that may
    wait for one of them to end, beyond which a request is told to come later. `seconds`: of a request, waiting
    included; then it is given what there is. `grace`: seconds that running requests have left when the server is told
    to end."""

    body: int = 2 * 2**20
    prompt: int | None = None
    output: int | None = None
    prompts: int = 128
    texts: int = 2048
    samples: int = 16
    tops: int = 20
    stops: int = 16
    running: int = 64
    waiting: int = 256
    seconds: float = 600.0
    grace: float = 10.0

    def __post_init__(self) -> None:
        for name, least in WHOLE.items():
            count = getattr(self, name)
            if type(count) is not int or count < least:
                raise BadInput(f"must be a whole number, at least {least}, is {count!r}", field=f"Bounds.{name}")
        for name in ("prompt", "output"):
            count = getattr(self, name)
            if count is not None and (type(count) is not int or count < 1):
                raise BadInput(f"must be a whole number, at least 1, or None, is {count!r}", field=f"Bounds.{name}")
        for name, least in (("seconds", 1e-3), ("grace", 0.0)):
            time = getattr(self, name)
            if type(time) not in (int, float) or not (isfinite(time) and time >= least):
                raise BadInput(f"must be a number of seconds, at least {least:g}, is {time!r}", field=f"Bounds.{name}")
