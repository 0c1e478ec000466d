"""A small decoder trained from scratch: the same text, tokens and number of weights for everything that is compared.

The corpus is one long text of characters, its last tenth kept apart; every step reads windows of it at random places,
the same ones for every part. What a part has in weights beyond the others is taken from the feeds' hidden width, so
that all have as many, within 1%. AdamW, a cosine from a warm-up of a tenth; no dropout.
Departure: held-out windows stand at even distances, and their first tokens have little to go by, as in training.
B rows · T position · N tokens, flat · V vocabulary.   Read next: lab/compare/contest.py, train/fit.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cutaway.base.bounds import at_least
from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.data.readers import sources
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block, Mixer, Part
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.ops.forms import FAST, Forms
from cutaway.train.fit import fit
from cutaway.train.loss import Objective
from cutaway.train.objectives.causal import Causal
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.schedules import Cosine, Scheduled
from cutaway.train.validation import validate
from cutaway.weights import corpora

HELD = 0.1  # of the text, at its end
POINTS = 40  # of a curve
CLOSE = 0.01  # by how much of the whole two numbers of weights may differ and be called equal
FLOPS, BLOCK_SECONDS = 60e9, 0.0035  # on two cores of a server: arithmetic, and what a block takes besides at each step

Adapted = tuple[Any, Objective]
Adapt = Callable[[nn.Module, Any, Objective], Adapted]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """`corpus`: a file, a folder of texts, or a corpus by its name. `windows`: of the held-out text, each of `length`
    tokens. `seeds`: how many trainings of each part, which differ in their first weights and in what they read."""

    corpus: str = "shakespeare"
    dim: int = 96
    layers: int = 3
    heads: int = 4
    length: int = 128
    rows: int = 8
    steps: int = 300
    rate: float = 3e-3
    windows: int = 128
    seeds: int = 3

    def __post_init__(self) -> None:
        at_least(self, 1, "dim", "layers", "heads", "length", "rows", "steps", "windows", "seeds")
        if self.dim % (2 * self.heads):
            said = f"{self.heads} heads that rotate in pairs need a multiple of {2 * self.heads}; is {self.dim}"
            raise BadInput(said, field="Setting.dim")
        if not 0.0 < self.rate < 1.0:
            raise BadInput(f"must be between 0 and 1, is {self.rate}", field="Setting.rate")

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def tokens(self) -> int:
        """What one training reads."""
        return self.steps * self.rows * self.length

    def mixer(self, **more: Any) -> GroupedQuery:
        """Attention with a key and a value for every head and rotary positions, or with what is told otherwise."""
        more = {"kv_heads": self.heads, "rope": Rope(width=self.head_dim), **more}
        return GroupedQuery(heads=self.heads, head_dim=self.head_dim, **more)

    def decoder(self, vocab: int, mixer: Mixer, feed: Part, **more: Any) -> Decoder:
        """Equal pre-norm blocks. `more`: other fields of the decoder."""
        block = Block(mixer=mixer, feed=feed, before=RMSNorm())
        more = {"length": self.length, "norm": RMSNorm(), **more}
        return Decoder(vocab=vocab, dim=self.dim, blocks=(block,) * self.layers, **more)

    def usual(self, vocab: int) -> Decoder:
        """The decoder to which others are made equal: multi-head attention, RoPE, SwiGLU of 8/3 the width."""
        return self.decoder(vocab, self.mixer(), Gated(hidden=max(1, 8 * self.dim // 3)))

    def seconds(self, model: Decoder) -> float:
        """About how long one training of this takes on two free cores."""
        flops = 3 * model.cost(self.length, self.length).flops * self.rows  # backward costs twice the forward pass
        return self.steps * (flops / FLOPS + BLOCK_SECONDS * len(model.blocks))


@dataclass(frozen=True, kw_only=True, eq=False)
class Text:
    """A corpus as numbers of characters, (N,): what is trained on, and what is kept apart. `vocab`: how many there
    are."""

    training: Tensor
    validation: Tensor
    vocab: int

    @classmethod
    def read(cls, corpus: str, length: int) -> Text:
        """Raises NotFound for a corpus that is not there; BadInput for one of no text, or too short for windows of
        `length` tokens."""
        text = "\n".join(entry.text for entry in sources.read([corpora.located(corpus)]))
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        known = np.flatnonzero(np.bincount(codes))
        numbers = np.zeros(int(known[-1]) + 1 if len(known) else 1, dtype=np.int64)
        numbers[known] = np.arange(len(known))
        ids_N = torch.from_numpy(numbers[codes])
        cut = int(len(ids_N) * (1 - HELD))
        if min(cut, len(ids_N) - cut) < length + 2:
            said = f"{len(ids_N):,} characters are too few for windows of {length}, a tenth of them kept apart"
            raise BadInput(said, source=corpus)
        return cls(training=ids_N[:cut], validation=ids_N[cut:], vocab=len(known))

    def batches(self, setting: Setting, seed: int) -> Iterator[Batch]:
        """Windows at random places, without end."""
        make = torch.Generator().manual_seed(seed)
        while True:
            starts_B = torch.randint(len(self.training) - setting.length, (setting.rows,), generator=make)
            yield windows(self.training, starts_B, setting.length)

    def held(self, count: int, length: int) -> Iterator[Batch]:
        """`count` windows at even distances over the held-out text, some at a time."""
        starts = torch.linspace(0, len(self.validation) - length - 1, count).long()
        for some in starts.split(max(1, 4096 // length)):
            yield windows(self.validation, some, length)


def windows(ids_N: Tensor, starts_B: Tensor, length: int) -> Batch:
    """`length` tokens from each place, each to say the next."""
    ids_BT = ids_N[starts_B[:, None] + torch.arange(length + 1)]
    lengths = (length,) * len(starts_B)
    return Batch(ids_N=ids_BT[:, :-1].flatten(), targets_N=ids_BT[:, 1:].flatten(), lengths=lengths)


def parameters(model: Decoder) -> int:
    return model.cost(1, 1).parameters


def matched(
    make: Callable[[int], Decoder], target: int, *, name: str, count: Callable[[Decoder], int] = parameters
) -> Decoder:
    """The decoder that `make` gives for the hidden width with which it has `target` weights, or nearly so.

    `count`: what counts as weights. Raises BadInput, naming the part, where no width comes within 1%.
    """
    first = count(make(1))
    each = count(make(2)) - first
    hidden = max(1, 1 + round((target - first) / each))
    model = make(hidden)
    if abs(count(model) - target) > CLOSE * target:
        said = f"has {count(model):,} weights with feeds of {hidden}, the others have {target:,}"
        raise BadInput(said, field=name)
    return model


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A module after its training. `loss`: of the held-out windows, nats a token. `curve`: (tokens read, mean training
    loss since the point before). `forms`: what it ran on."""

    module: nn.Module
    loss: float
    curve: tuple[tuple[int, float], ...]
    forms: Forms = FAST


def built(model: Decoder, seed: int) -> nn.Module:
    """Its module with first weights from the seed; the caller's random numbers stay as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model.build()


def train(
    module: nn.Module, text: Text, setting: Setting, seed: int, adapt: Adapt | None = None, forms: Forms = FAST
) -> Trained:
    """Trains it on the windows of `seed`. `adapt`: (module, optimiser, objective) -> those two that are to be used.
    `forms`: what it runs on, in training and behind it."""
    optimiser: Any = AdamW(rate=setting.rate).build(module)
    plain: Objective = Causal(forms=forms)
    optimiser, objective = (optimiser, plain) if adapt is None else adapt(module, optimiser, plain)
    schedule = Cosine(steps=setting.steps, warmup=setting.steps // 10)
    stretch, since, curve = max(1, setting.steps // POINTS), [], []
    for step in fit(
        module, objective, text.batches(setting, seed), Scheduled(optimiser, schedule), steps=setting.steps
    ):
        since.append(step.loss)
        if step.index % stretch == 0:
            curve.append((step.index * setting.rows * setting.length, mean(since)))
            since.clear()
    score = validate(module, plain, text.held(setting.windows, setting.length))
    return Trained(module=module.eval(), loss=score.loss, curve=tuple(curve), forms=forms)
