"""Two probes of what a mixer can look up, on data that are made: a passkey far back, and the partner of a name.

  passkey   noise ... MARK d d ... noise ... ASK -> d d      (Mohtashami and Jaggi 2023, arXiv 2305.16300, section 4.2)
  recall    k v k v k v ... k k k ... -> at each later k its v (MQAR; Arora et al. 2023, arXiv 2312.04927, section 3.1)
Small models are trained on each from scratch until they have it, or until their steps are over. Recall takes two
layers: one brings the name to its partner's place, one finds it there (an induction head).
Departures: both are shorter than theirs by far. Names are asked again and again, with nothing between. In training the
partner's place is also asked for the name before it: without that hint a model took thousands of steps to begin.
B rows · T position · N tokens, flat.   Read next: lab/compare/attention_training.py
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cutaway.base.bounds import at_least
from cutaway.base.errors import BadInput
from cutaway.data.batch import IGNORE, Batch
from cutaway.models.decoder import Decoder
from cutaway.nn.block import Block, Mixer
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.ops.forms import FAST, Forms
from cutaway.train.fit import fit
from cutaway.train.objectives.causal import Causal
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.optimisers.muon import Muon
from cutaway.train.schedules import Linear, Scheduled

SOLVED, LAST = 0.05, 10  # nats, over so many steps: then nothing is left to learn
QUARTERS = 4
DIGITS = 10


class Probe(Protocol):
    """`rows`: ids (B, T), what is asked at each place (B, T), and how many tokens back the answer stands (B, T)."""

    @property
    def length(self) -> int: ...
    @property
    def vocab(self) -> int: ...
    def rows(self, count: int, make: torch.Generator) -> tuple[Tensor, Tensor, Tensor]: ...
    def hint(self, ids_BT: Tensor, asked_BT: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Passkey:
    """`digits` of ten behind a mark, anywhere among `noise` other tokens; asked for at the end."""

    length: int = 64
    digits: int = 2
    noise: int = 16

    def __post_init__(self) -> None:
        if min(self.digits, self.noise) < 1 or self.length < 2 * self.digits + 2:
            said = f"{self.digits} digits of which the end asks do not fit into {self.length} tokens"
            raise BadInput(said, field="Passkey.length")

    @property
    def vocab(self) -> int:
        return self.noise + DIGITS + 2

    @property
    def mark(self) -> int:
        return self.noise + DIGITS

    @property
    def ask(self) -> int:
        return self.noise + DIGITS + 1

    def rows(self, count: int, make: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        ids_BT = torch.randint(self.noise, (count, self.length), generator=make)
        key_BD = self.noise + torch.randint(DIGITS, (count, self.digits), generator=make)
        end = self.length - self.digits
        at_B1 = torch.randint(end - self.digits, (count, 1), generator=make)
        ids_BT.scatter_(1, at_B1, self.mark)
        ids_BT.scatter_(1, at_B1 + 1 + torch.arange(self.digits), key_BD)
        ids_BT[:, end] = self.ask
        ids_BT[:, end + 1 :] = key_BD[:, :-1]
        asked_BT, back_BT = torch.full_like(ids_BT, IGNORE), torch.zeros_like(ids_BT)
        asked_BT[:, end:] = key_BD
        back_BT[:, end:] = end - at_B1 - 1
        return ids_BT, asked_BT, back_BT

    def hint(self, ids_BT: Tensor, asked_BT: Tensor) -> Tensor:
        """None is needed."""
        return asked_BT


@dataclass(frozen=True, kw_only=True)
class Recall:
    """`pairs` of a name and a value, each of `names` kinds; behind them names alone, drawn again and again."""

    length: int = 32
    pairs: int = 4
    names: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.pairs <= self.names:
            raise BadInput(f"must be 1 to {self.names}, as many as there are names; is {self.pairs}", field="pairs")
        if self.length <= 2 * self.pairs:
            raise BadInput(f"{self.pairs} pairs leave nothing of {self.length} tokens to ask in", field="Recall.length")

    @property
    def vocab(self) -> int:
        return 2 * self.names

    def rows(self, count: int, make: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        told = 2 * self.pairs
        names_BP = torch.rand(count, self.names, generator=make).argsort(1)[:, : self.pairs]
        values_BP = self.names + torch.randint(self.names, (count, self.pairs), generator=make)
        which_BQ = torch.randint(self.pairs, (count, self.length - told), generator=make)
        pairs_BT = torch.stack((names_BP, values_BP), -1).flatten(1)
        ids_BT = torch.cat((pairs_BT, names_BP.gather(1, which_BQ)), 1)
        asked_BT, back_BT = torch.full_like(ids_BT, IGNORE), torch.zeros_like(ids_BT)
        asked_BT[:, told:] = values_BP.gather(1, which_BQ)
        back_BT[:, told:] = torch.arange(told, self.length) - (2 * which_BQ + 1)
        return ids_BT, asked_BT, back_BT

    def hint(self, ids_BT: Tensor, asked_BT: Tensor) -> Tensor:
        """Each value's place is asked for its name."""
        told, hinted_BT = 2 * self.pairs, asked_BT.clone()
        hinted_BT[:, 1:told:2] = ids_BT[:, 0:told:2]
        return hinted_BT


@dataclass(frozen=True, kw_only=True)
class Probing:
    """The small models that are probed, and their training. `tested`: rows that the accuracy is taken of. `seeds`: how
    many models of each part."""

    dim: int = 64
    layers: int = 2
    heads: int = 4
    rows: int = 32
    steps: int = 500
    rate: float = 0.02
    tested: int = 256
    seeds: int = 2

    def __post_init__(self) -> None:
        at_least(self, 1, "dim", "layers", "heads", "rows", "steps", "tested", "seeds")
        if self.dim % (2 * self.heads):
            raise BadInput(f"{self.heads} heads need a multiple of {2 * self.heads}", field="Probing.dim")

    def decoder(self, mixer: Mixer, probe: Probe) -> Decoder:
        block = Block(mixer=mixer, feed=Gated(hidden=2 * self.dim), before=RMSNorm())
        blocks = (block,) * self.layers
        return Decoder(vocab=probe.vocab, dim=self.dim, blocks=blocks, length=probe.length, norm=RMSNorm(), tied=False)


@dataclass(frozen=True, kw_only=True)
class Found:
    """`accuracy`: the share of answers that were right; `quarters`: the same by how far back the answer stood, the
    nearest quarter of the length first (None where nothing stood there). `steps`: those it took, all where it never had
    it."""

    accuracy: float
    quarters: tuple[float | None, ...]
    steps: int


def probed(mixer: Mixer, probe: Probe, probing: Probing, seed: int, forms: Forms = FAST) -> Found:
    """Trains a model of this mixer, running on `forms`, on the probe, and asks it rows that it has not seen."""
    make = torch.Generator().manual_seed(seed + 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = probing.decoder(mixer, probe).build()
    rest = AdamW(rate=probing.rate / 4, decay=0.0)
    schedule = Linear(steps=probing.steps, warmup=probing.steps // 10, floor=0.1)
    optimiser: Any = Scheduled(Muon(rate=probing.rate, rest=rest).build(module), schedule)
    losses: list[float] = []
    batches = _batches(probe, probing.rows, make)
    for step in fit(module, Causal(forms=forms), batches, optimiser, steps=probing.steps):
        losses.append(step.loss)
        if len(losses) >= LAST and max(losses[-LAST:]) < SOLVED:
            break
    return asked(module, probe, probing.tested, make, steps=len(losses), forms=forms)


def _batches(probe: Probe, rows: int, make: torch.Generator) -> Iterator[Batch]:
    while True:
        ids_BT, asked_BT, _ = probe.rows(rows, make)
        yield Batch(
            ids_N=ids_BT.flatten(),
            targets_N=probe.hint(ids_BT, asked_BT).flatten(),
            lengths=(probe.length,) * rows,
        )


@torch.no_grad()
def asked(
    module: nn.Module, probe: Probe, rows: int, make: torch.Generator, *, steps: int = 0, forms: Forms = FAST
) -> Found:
    """What a module that maps ids to scores answers on fresh rows."""
    ids_BT, asked_BT, back_BT = probe.rows(rows, make)
    scores_NV, _ = module.eval()(ids_BT.flatten(), Context.of((probe.length,) * rows, forms=forms))
    right_BT, there_BT = scores_NV.argmax(-1).view_as(ids_BT) == asked_BT, asked_BT != IGNORE
    quarter_BT = (back_BT * QUARTERS // probe.length).clamp(max=QUARTERS - 1)
    quarters = (there_BT & (quarter_BT == place) for place in range(QUARTERS))
    return Found(
        accuracy=_share(right_BT, there_BT) or 0.0,
        quarters=tuple(_share(right_BT, among_BT) for among_BT in quarters),
        steps=steps,
    )


def _share(right_BT: Tensor, among_BT: Tensor) -> float | None:
    return float(right_BT[among_BT].double().mean()) if bool(among_BT.any()) else None
