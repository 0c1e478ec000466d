"""The process in which a reader's file runs: `python -m cutaway.lab.swap.child`, orders and answers as lines of JSON.

What the file prints goes to standard error; its standard input is empty. Read next: lab/swap/sandbox.py
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from cutaway.base.errors import BadInput, CutawayError
from cutaway.lab.swap import limits

if TYPE_CHECKING:
    from cutaway.infer.language import Language
    from cutaway.lab.swap.part import Part

TOKENS = 9  # that a speed is taken from
STORY = "Once upon a time there was a small house at the edge of a wood, and in it"


class Wire:
    """Lines to and from whoever started us, away from the streams that the reader's file knows."""

    def __init__(self) -> None:
        self.orders: TextIO = os.fdopen(os.dup(0), "r", encoding="utf-8")
        self.answers: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, 0)
        os.dup2(2, 1)
        sys.stdin = io.StringIO("")

    def say(self, **answer: Any) -> None:
        self.answers.write(json.dumps(answer) + "\n")
        self.answers.flush()

    def order(self) -> dict[str, Any] | None:
        line = self.orders.readline()
        return json.loads(line) if line else None


def main() -> None:
    wire = Wire()
    limits.leave_with_parent()
    order = wire.order()
    if order is None:
        return
    folder = Path(order["folder"])
    limits.confine(folder)
    import torch  # after the limits on files, before those on memory: threads that it starts keep them

    from cutaway.lab.swap.table import find

    torch.set_num_threads(order["threads"])
    part = find(order["part"])
    language = None
    if order["do"] == "talk":
        try:
            language = _opened(order["model"], order.get("attend"))
        except CutawayError as error:
            wire.say(refused=str(error))
            return
    failed = limits.bound(order["memory"], 30 * order["seconds"] if order["do"] == "judge" else None)
    limits.watch_writes(folder)
    wire.say(ready=True, unlimited=failed)
    _serve(wire, order, part, language)


def _opened(name: str, attend: str | None) -> Language:
    """The model, its other parts ours in their fast forms. Raises CutawayError for what is not there, BadInput for what
    does not continue a text."""
    from cutaway.infer.language import Language
    from cutaway.infer.load import load
    from cutaway.ops.forms import attended

    language = load(name, forms=attended(attend))
    if not (isinstance(language, Language) and language.speaks):
        raise BadInput("does not continue a text, which a part is shown in: give a decoder", source=name)
    return language


def _serve(wire: Wire, order: dict[str, Any], part: Part, language: Language | None) -> None:
    from cutaway.lab.swap.judge import judge, raises
    from cutaway.lab.swap.source import take

    path = Path(order["path"])
    sys.path.insert(0, str(path.parent))
    try:
        mine, fault = take(part.name, path, order["function"])
        if fault is None and language is None:
            fault = judge(part, mine, str(path), lambda text: wire.say(at=text))
        if fault is not None:
            wire.say(verdict=fault.plain())
            if fault.passed and order["timed"]:
                wire.say(speed=_per_call(part, mine))
            return
        assert language is not None
        _talk(wire, part, mine, language)
    except BaseException as error:
        wire.say(verdict=raises(part.name, error, str(path)).plain())


def _per_call(part: Part, mine: Any) -> dict[str, Any]:
    """Seconds of one call, the best of several, within a second each."""
    import torch

    if part.bench is None:
        return {}
    found: dict[str, Any] = {"unit": "seconds a call"}
    for name, function in (("yours", mine), ("ours", part.ours)):
        arguments, options = part.bench()
        best, start = float("inf"), time.perf_counter()
        with torch.no_grad():
            while time.perf_counter() - start < 0.5:
                begun = time.perf_counter()
                function(*arguments, **options)
                best = min(best, time.perf_counter() - begun)
        found[name] = best
    return found


def _talk(wire: Wire, part: Part, mine: Any, language: Language) -> None:
    """Answers orders with the reader's part in the model, until they end."""
    from cutaway.lab.swap.fitting import fitted

    try:
        swapped, places = fitted(language, part, mine)
    except BadInput as error:
        wire.say(refused=str(error))
        return
    speed: dict[str, Any] = {"unit": "tokens/s", "places": places, "ours": 0.0, "yours": 0.0}
    for name, one in (("ours", language), ("yours", swapped)) * 2:  # the first run finds everything cold
        speed[name] = max(speed[name], _rate(one, lambda name=name: wire.say(at=f"timing {name}")))
    template = swapped.tokenizer is not None and swapped.tokenizer.template is not None
    wire.say(speed=speed, template=template)
    held = swapped.continuation()
    while (order := wire.order()) is not None:
        try:
            for piece in swapped.stream(order["prompt"], held=held, **order["options"]):
                wire.say(piece=vars(piece))
        except KeyboardInterrupt:
            held = swapped.continuation()
        except BadInput as error:  # a prompt that is too long, logits that are not finite
            wire.say(refused=str(error))
            continue
        wire.say(end=True)


def _rate(language: Language, beat: Callable[[], None]) -> float:
    """Tokens per second after the first; says after each that it is alive."""
    held, times = language.continuation(), []
    beat()
    for _ in language.stream(STORY, held=held, max_tokens=TOKENS):
        times.append(time.perf_counter())
        beat()
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0


if __name__ == "__main__":
    main()
