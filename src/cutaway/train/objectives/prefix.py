"""Prefix language modelling: a prefix is read both ways, and what follows it is said token by token.

Liu et al. 2018 (arXiv 1801.10198); Dong et al. 2019 (arXiv 1905.03197); Du et al. 2021 (GLM, arXiv 2103.10360).
loss = -sum_{t >= p} log p(x[t] | x[..t], and all of x[..p])
A token inside the prefix sees the next one already: only what is behind the prefix is asked for.
N tokens, flat.   Read next: train/objectives/causal.py, ops/visible.py
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cutaway.base.bounds import fractions
from cutaway.base.errors import BadInput
from cutaway.data.batch import IGNORE, Batch
from cutaway.nn.context import Context
from cutaway.ops.forms import FAST, Forms
from cutaway.train.loss import Loss, asked
from cutaway.train.objectives.causal import following, told


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """The batch brings `prefix`, the leading tokens of each sequence. `z`, `smoothing`, `forms`: as in Causal."""

    splits = True
    z: float = 0.0
    smoothing: float = 0.0
    forms: Forms = FAST

    def __post_init__(self) -> None:
        fractions(self, "z", "smoothing")

    def __call__(self, module: nn.Module, batch: Batch) -> Loss:
        prefix = told(batch.prefix, "prefix")
        context = Context.of(batch.lengths, device=batch.ids_N.device, prefix=prefix, forms=self.forms)
        targets_N = behind(told(batch.targets_N, "targets_N"), batch.lengths, prefix)
        total, report = following(module, batch.ids_N, context, targets_N, z=self.z, smoothing=self.smoothing)
        return Loss(total=total, count=asked(targets_N), report=report)


def behind(targets_N: Tensor, lengths: tuple[int, ...], prefix: tuple[int, ...]) -> Tensor:
    """Next-token targets with IGNORE where the target lies in its sequence's prefix, and so has been seen.

    The prefix's last token is asked for what follows it. Raises BadInput for a prefix longer than its sequence.
    """
    if any(not 0 <= held <= length for held, length in zip(prefix, lengths, strict=True)):
        raise BadInput("a prefix is longer than its sequence", field="Batch.prefix")
    seen = [flag for held, length in zip(prefix, lengths, strict=True) for flag in _seen(held, length)]
    return targets_N.masked_fill(torch.tensor(seen, dtype=torch.bool, device=targets_N.device), IGNORE)


def _seen(held: int, length: int) -> list[bool]:
    return [place < held - 1 for place in range(length)]
