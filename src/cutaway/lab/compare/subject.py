"""A model that is read beyond its length: how far, how often, and about how long that takes.

Read next: lab/compare/stretched.py, lab/compare/length.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.base.paths import expand
from cutaway.lab.compare.stretched import VARIANTS, WINDOWED, Sizes, variant
from cutaway.models.decoder import Decoder
from cutaway.train.run import CARD, Run

RATE, SCORES = 1.5e11, 8e10  # floating-point operations a second on two cores: of the maps, and of attention
TOKENS, SECONDS = 2**14, 20.0  # passages, where nobody says how many: up to so many tokens, as long as it is quick
BESIDE = 8e-6  # seconds a token and layer takes beside them: of a small model, nearly all of its time


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model and how it is read: `passages` of `context` tokens; numbers are asked for at the ends of `lengths`.
    `token`, `pair`: FLOPs of reading one token, and of one earlier token that it sees."""

    model: str
    trained: int
    context: int
    lengths: tuple[int, ...]
    variants: tuple[str, ...]
    passages: int
    window: int
    sinks: int
    layers: int
    token: int
    pair: int

    def __post_init__(self) -> None:
        if self.passages < 1:
            raise BadInput(f"must be at least 1, is {self.passages}", field="passages")
        if not self.lengths or not all(1 <= one <= self.context for one in self.lengths):
            raise BadInput(f"must be from 1 to the context of {self.context}, are {self.lengths}", field="lengths")
        for name in self.variants:
            if name not in VARIANTS:
                raise BadInput(f'no variant is called "{name}"{did_you_mean(name, VARIANTS)}', field="variants")
        _ = self.sizes  # refuses a window beyond the context

    @property
    def sizes(self) -> Sizes:
        return Sizes(trained=self.trained, context=self.context, window=self.window, sinks=self.sinks)

    def seconds(self, name: str, depths: Sequence[float]) -> float:
        """About how long a variant takes on two cores."""
        most = self.window + self.sinks if name in WINDOWED else self.context
        spans = [(0, self.context)] + [(depth * length, length) for length in self.lengths for depth in depths]
        tokens = sum(end - start for start, end in spans) * self.passages
        pairs = sum(_pairs(end, most) - _pairs(start, most) for start, end in spans) * self.passages
        return tokens * self.token / RATE + pairs * self.pair / SCORES + tokens * BESIDE * self.layers


def _pairs(length: float, most: int) -> float:
    """Visible pairs of a text where each token sees `most` at the most."""
    short = min(length, most)
    return short * short / 2 + (length - short) * most


def key(model: str, name: str) -> str:
    """The name of a cell."""
    return f"{model}, {name}"


def subject(model: str, spec: Decoder, trained: int, **told: Any) -> Subject:
    """A model as it is read where nobody says otherwise: up to eight times its length where that is quick, an eighth
    beyond it where it is not. `told`: fields of `Subject` that somebody says."""
    context = told.pop("context", None) or min(8 * trained, max(9 * trained // 8, 1024))
    doubles = [trained * 2**power for power in range(4) if trained * 2**power <= context]
    lengths = doubles if len(doubles) > 1 else [max(1, trained // 4), context]
    once, twice = (spec.cost(1, length).flops for length in (1, 2))
    made: dict[str, Any] = {
        "lengths": tuple(lengths),
        "passages": 1,
        "window": min(1024, max(1, trained // 2)),
        "sinks": 4,
        "variants": tuple(VARIANTS),
    } | {name: value for name, value in told.items() if value is not None}
    sizes = Sizes(trained=trained, context=context, window=made["window"], sinks=made["sinks"])
    # A name that is none is left for `Subject` to refuse.
    able = [name for name in made["variants"] if name not in VARIANTS or variant(spec, name, sizes) is not None]
    made |= {"variants": tuple(able), "layers": len(spec.blocks), "token": once, "pair": twice - once}
    found = Subject(model=model, trained=trained, context=context, **made)
    most = min(TOKENS // context, int(SECONDS / found.seconds("as-is", (0.5,))))
    return found if told.get("passages") else replace(found, passages=max(1, most))


def trained_length(model: str, spec: Decoder) -> int:
    """What a model was trained at: a run tells it, of any other its value's length."""
    path = Path(expand(model)) / CARD
    if path.is_file():
        told = Run.open(path.parent).card["recipe"].get("task", {}).get("length")
        if isinstance(told, int) and told > 0:
            return told
    return spec.length
