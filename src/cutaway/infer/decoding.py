"""How the next token is chosen: one value, without tensors.

Read next: infer/sampler.py
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cutaway.base.errors import BadInput

MOST = 1000  # of a penalty: numbers without a bound would make logits infinite
NUMBERS: dict[str, tuple[type, ...]] = {
    "max_tokens": (int,),
    "temperature": (int, float),
    "top_k": (int, type(None)),
    "top_p": (int, float, type(None)),
    "min_p": (int, float, type(None)),
    "typical_p": (int, float, type(None)),
    "epsilon": (int, float, type(None)),
    "eta": (int, float, type(None)),
    "repetition_penalty": (int, float),
    "presence_penalty": (int, float),
    "frequency_penalty": (int, float),
    "no_repeat_ngram": (int, type(None)),
    "min_tokens": (int,),
    "seed": (int, type(None)),
}


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Temperature 0 takes the likeliest token (greedy). Otherwise, in this order: rules, repetition penalty,
    temperature, top_k, top_p, min_p, typical_p, epsilon, eta, draw.

    `max_tokens`, `min_tokens`: of the answer; before the least of them no end is possible. `stop`: texts that end the
    answer; they are not part of it. `seed`: the same seed draws the same tokens.
    Cuts, each on what the one before has left:
    `top_k`: keep the k likeliest. `top_p`: keep the likeliest whose sum first reaches p (nucleus, arXiv 1904.09751).
    `min_p`: keep those at least min_p times as likely as the likeliest (arXiv 2407.01082). `typical_p`: keep those
    whose surprise is nearest to the mean surprise, until their sum reaches it (arXiv 2202.00666). `epsilon`: keep those
    at least so likely; `eta`: the same, less where the distribution is flat (arXiv 2210.15191).
    Penalties: `repetition_penalty` divides the positive logits of tokens already seen, multiplies the negative ones
    (CTRL, arXiv 1909.05858, section 4.1); `presence_penalty` is taken off tokens that were written,
    `frequency_penalty` each time they were (OpenAI's API).
    Rules: `no_repeat_ngram`: no run of so many tokens twice (arXiv 1705.04304, section 2.5). `banned`: sequences of
    token ids that must not come. `forced`: ids that the answer begins with. `end_forced`: the last token that
    `max_tokens` allows is an end. `logit_bias`: what is added to the logits of ids, pairs or a mapping.
    """

    max_tokens: int = 256
    min_tokens: int = 0
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    epsilon: float | None = None
    eta: float | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram: int | None = None
    banned: tuple[tuple[int, ...], ...] = ()
    forced: tuple[int, ...] = ()
    end_forced: bool = False
    logit_bias: tuple[tuple[int, float], ...] = ()
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
        self._take_ids()
        rules = (
            ("end_forced", isinstance(self.end_forced, bool), "must be True or False"),
            ("max_tokens", self.max_tokens >= 0, "must not be negative"),
            ("min_tokens", 0 <= self.min_tokens <= self.max_tokens, "must be from 0 to max_tokens"),
            ("temperature", 0.0 <= self.temperature < float("inf"), "must be 0 or more"),
            ("top_k", self.top_k is None or self.top_k >= 1, "must be at least 1"),
            ("top_p", self.top_p is None or 0.0 < self.top_p <= 1.0, "must be in (0, 1]"),
            ("min_p", self.min_p is None or 0.0 <= self.min_p <= 1.0, "must be in [0, 1]"),
            ("typical_p", self.typical_p is None or 0.0 < self.typical_p <= 1.0, "must be in (0, 1]"),
            ("epsilon", self.epsilon is None or 0.0 <= self.epsilon < 1.0, "must be in [0, 1)"),
            ("eta", self.eta is None or 0.0 <= self.eta < 1.0, "must be in [0, 1)"),
            ("presence_penalty", abs(self.presence_penalty) <= MOST, f"must be from -{MOST} to {MOST}"),
            ("frequency_penalty", abs(self.frequency_penalty) <= MOST, f"must be from -{MOST} to {MOST}"),
            ("no_repeat_ngram", self.no_repeat_ngram is None or self.no_repeat_ngram >= 1, "must be at least 1"),
            ("repetition_penalty", 1 / MOST <= self.repetition_penalty <= MOST, f"must be from {1 / MOST} to {MOST}"),
            ("stop", all(isinstance(text, str) and text for text in self.stop), "must be texts that are not empty"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise BadInput(f"{rule}, is {getattr(self, name)}", field=name)

    def _take_ids(self) -> None:
        """Puts lists and mappings of token ids into tuples. Raises BadInput for what holds something else."""
        bias = self.logit_bias.items() if isinstance(self.logit_bias, Mapping) else self.logit_bias
        try:
            banned = tuple((one,) if isinstance(one, int) else tuple(one) for one in self.banned)
            forced, bias = tuple(self.forced), tuple((id, float(amount)) for id, amount in bias)
        except (TypeError, ValueError):
            names = "banned (sequences of ids), forced (ids) and logit_bias (ids with numbers)"
            raise BadInput(f"{names} hold something else", field="banned, forced, logit_bias") from None
        for name, ids in (
            ("banned", [id for sequence in banned for id in sequence or (-1,)]),
            ("forced", forced),
            ("logit_bias", [id for id, _ in bias]),
        ):
            if not all(isinstance(id, int) and not isinstance(id, bool) and id >= 0 for id in ids):
                raise BadInput("must hold token ids, which are whole numbers from 0", field=name)
        if not all(amount <= MOST for _, amount in bias):  # not a number neither; minus infinity bans
            raise BadInput(f"must hold numbers up to {MOST}", field="logit_bias")
        for name, value in (("banned", banned), ("forced", forced), ("logit_bias", bias)):
            object.__setattr__(self, name, value)

    @property
    def ruled(self) -> bool:
        """Whether any rule stands that `infer.rules` applies."""
        penalties = self.presence_penalty or self.frequency_penalty or self.no_repeat_ngram
        return bool(penalties or self.min_tokens or self.banned or self.forced or self.end_forced or self.logit_bias)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0
