"""Span corruption: spans of the text are cut out, and the decoder says them, each behind the mark left in its place.

Raffel et al. 2019 (T5, arXiv 1910.10683), section 3.1.4 and figure 2: 15% of the tokens, in spans of 3 on average.
    source   Thank you <X> me to your party <Y> week.      target   <X> for inviting <Y> last <Z>
The numbers of noise tokens and spans are fixed by the length alone, as in T5's code; where the spans lie is random:
    noise = round(length * share), at least 1, and one token stays;   spans = round(noise / mean), at least 1
Departure: the last mark ends every target, as in figure 2 (T5's code has the end-of-text id alone).
T positions of one sequence.   Read next: train/objectives/seq2seq.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from cutaway.base.bounds import fractions
from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.train.loss import Loss
from cutaway.train.objectives.seq2seq import SequenceToSequence, paired


@dataclass(frozen=True, kw_only=True)
class Spans:
    """`sentinel`: the id of the first mark; the others lie below it, `sentinels` in all (T5: <extra_id_0> is its
    highest). `start`: what the decoder begins with; `end`: what closes source and target, if anything does.

    In training each batch is corrupted anew by torch's own generator, whose state a run saves; in evaluation always
    alike, from `seed`. Sequences of one token have nothing to cut out, and are left out.
    """

    splits = True
    sentinel: int
    sentinels: int = 100
    start: int = 0
    end: int | None = None
    share: float = 0.15
    mean: float = 3.0
    smoothing: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        fractions(self, "share", "smoothing")
        if self.share == 0.0 or self.mean < 1.0:
            raise BadInput("nothing would be cut out", field="Spans.share" if self.share == 0.0 else "Spans.mean")
        if not 2 <= self.sentinels <= self.sentinel + 1:
            raise BadInput(f"{self.sentinels} marks do not fit below {self.sentinel}", field="Spans.sentinels")

    def __call__(self, module: nn.Module, batch: Batch) -> Loss:
        generator = None if module.training else torch.Generator().manual_seed(self.seed)
        device = batch.ids_N.device
        sequences = [ids.tolist() for ids in batch.ids_N.cpu().split(batch.lengths)]
        pairs = [corrupt(ids, self, generator) for ids in sequences if len(ids) > 1]
        made = paired([source for source, _ in pairs], [target for _, target in pairs], start=self.start)
        return SequenceToSequence(smoothing=self.smoothing)(module, made.to(device))


def corrupt(ids: Sequence[int], rule: Spans, generator: torch.Generator | None = None) -> tuple[list[int], list[int]]:
    """(source, target) of one sequence, its spans drawn by the generator (None: torch's own)."""
    source, target = cut(ids, noise(len(ids), rule.share, rule.mean, generator), rule.sentinel, rule.sentinels)
    closing = [] if rule.end is None else [rule.end]
    return source + closing, target + closing


def cut(ids: Sequence[int], noise_T: Sequence[bool], sentinel: int, sentinels: int) -> tuple[list[int], list[int]]:
    """The source has a mark for each run of noise, the target each mark with what it stands for, and one mark more.

    Raises BadInput if there are more runs than marks.
    """
    source, target, mark = [], [], sentinel
    for place, (id, noisy) in enumerate(zip(ids, noise_T, strict=True)):
        if not noisy:
            source.append(id)
            continue
        if place == 0 or not noise_T[place - 1]:
            source.append(mark)
            target.append(mark)
            mark -= 1
        target.append(id)
    if sentinel - mark >= sentinels:
        raise BadInput(f"{sentinel - mark} spans and the end need as many marks, there are {sentinels}", field="ids")
    return source, [*target, mark]


def counts(length: int, share: float, mean: float) -> tuple[int, int]:
    """(noise tokens, spans) of a sequence of `length` tokens, at least 2."""
    noisy = min(max(round(length * share), 1), length - 1)
    return noisy, min(max(round(noisy / mean), 1), length - noisy)


def noise(length: int, share: float, mean: float, generator: torch.Generator | None = None) -> list[bool]:
    """Which tokens are noise: kept and noisy spans take turns, a kept one first, all ways of cutting equally likely."""
    noisy, spans = counts(length, share, mean)
    kept_runs, noisy_runs = _pieces(length - noisy, spans, generator), _pieces(noisy, spans, generator)
    mask: list[bool] = []
    for kept, cut_out in zip(kept_runs, noisy_runs, strict=True):
        mask += [False] * kept + [True] * cut_out
    return mask


def _pieces(total: int, count: int, generator: torch.Generator | None) -> list[int]:
    """`total` as a sum of `count` positive numbers, uniformly: between which tokens it is cut."""
    places = sorted((torch.randperm(total - 1, generator=generator)[: count - 1] + 1).tolist())
    return [after - before for before, after in zip([0, *places], [*places, total], strict=True)]
