"""How the next token is chosen: one value, without tensors.

Read next: infer/sampler.py
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cutaway.base.errors import BadInput

NUMBERS: dict[str, tuple[type, ...]] = {
    "max_tokens": (int,),
    "temperature": (int, float),
    "top_k": (int, type(None)),
    "top_p": (int, float, type(None)),
    "min_p": (int, float, type(None)),
    "repetition_penalty": (int, float),
    "seed": (int, type(None)),
}


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Temperature 0 takes the likeliest token (greedy). Otherwise: penalty, temperature, top_k, top_p, min_p, draw.

    `top_k`: keep the k likeliest. `top_p`: keep the likeliest whose sum first reaches p (nucleus, arXiv 1904.09751).
    `min_p`: keep those at least min_p times as likely as the likeliest (arXiv 2407.01082). `repetition_penalty`: divide
    the positive logits of tokens already seen by it, multiply the negative ones (CTRL, arXiv 1909.05858, section 4.1).
    `stop`: texts that end the answer; they are not part of it. `seed`: the same seed draws the same tokens.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, kinds in NUMBERS.items():
            value = getattr(self, name)
            if not isinstance(value, kinds) or isinstance(value, bool):
                wanted = "a number" if float in kinds else "a whole number"
                raise BadInput(f"must be {wanted}{' or None' if type(None) in kinds else ''}, is {value!r}", field=name)
        if self.stop is not None and not isinstance(self.stop, Iterable):
            raise BadInput(f"must be a text or several, is {self.stop!r}", field="stop")
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        object.__setattr__(self, "stop", tuple(self.stop or ()))
        rules = (
            ("max_tokens", self.max_tokens >= 0, "must not be negative"),
            ("temperature", 0.0 <= self.temperature < float("inf"), "must be 0 or more"),
            ("top_k", self.top_k is None or self.top_k >= 1, "must be at least 1"),
            ("top_p", self.top_p is None or 0.0 < self.top_p <= 1.0, "must be in (0, 1]"),
            ("min_p", self.min_p is None or 0.0 <= self.min_p <= 1.0, "must be in [0, 1]"),
            ("repetition_penalty", 0.0 < self.repetition_penalty < float("inf"), "must be above 0"),
            ("stop", all(isinstance(text, str) and text for text in self.stop), "must be texts that are not empty"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise BadInput(f"{rule}, is {getattr(self, name)}", field=name)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0
