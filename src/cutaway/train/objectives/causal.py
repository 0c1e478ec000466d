"""Causal language modelling: from everything before it, say each next token.

Bengio et al. 2003; Radford et al. 2018.   loss = -sum log p(x[t+1] | x[..t])
Whoever makes the batch has shifted the targets by one, so that they may come from beyond the batch's edge.
N tokens, flat · D model dim · V vocabulary.   Read next: ops/cross_entropy.py, train/objectives/prefix.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from cutaway.base.bounds import fractions
from cutaway.base.errors import BadInput
from cutaway.data.batch import IGNORE, Batch
from cutaway.models.decoder import DecoderModel
from cutaway.nn.context import Context
from cutaway.ops.cross_entropy import cross_entropy_fast
from cutaway.ops.forms import FAST, Forms
from cutaway.train.loss import Loss, asked

Held = TypeVar("Held")


@dataclass(frozen=True, kw_only=True)
class Causal:
    """`z`: the weight of the z-loss (PaLM: 1e-4). `smoothing`: the share of a target that is spread over all words.
    `forms`: which form of each replaceable function the model runs on."""

    splits = True
    z: float = 0.0
    smoothing: float = 0.0
    forms: Forms = FAST

    def __post_init__(self) -> None:
        fractions(self, "z", "smoothing")

    def __call__(self, module: nn.Module, batch: Batch) -> Loss:
        context = Context.of(batch.lengths, device=batch.ids_N.device, forms=self.forms)
        targets_N = told(batch.targets_N, "targets_N")
        total, report = following(module, batch.ids_N, context, targets_N, z=self.z, smoothing=self.smoothing)
        return Loss(total=total, count=asked(targets_N), report=report)


def following(
    module: nn.Module, ids_N: Tensor, context: Context, targets_N: Tensor, *, z: float = 0.0, smoothing: float = 0.0
) -> tuple[Tensor, dict[str, Any]]:
    """The summed loss of a module that maps ids to scores of what follows, and what its parts report.

    A decoder is asked for hidden states, of which the head and the loss are taken together, chunk by chunk; of any
    other module the scores are taken.
    """
    if not isinstance(module, DecoderModel):
        logits_NV, report = module(ids_N, context)
        return cross_entropy_fast(logits_NV, None, targets_N, z=z, smoothing=smoothing), report
    x_ND, report = module.hidden(ids_N, context)
    if targets_N.is_cpu:  # elsewhere, to know how many rows are asked for means to wait
        rows_X = targets_N.ne(IGNORE).nonzero()[:, 0]
        if 2 * len(rows_X) < len(targets_N):
            x_ND, targets_N = x_ND[rows_X], targets_N[rows_X]

    def score(x_ND: Tensor, weight_VD: Tensor | None, **head: Any) -> Tensor:
        return cross_entropy_fast(x_ND, weight_VD, targets_N, z=z, smoothing=smoothing, **head)

    return module.scored(x_ND, context, score), report


def told(held: Held | None, name: str) -> Held:
    """What a batch must bring for an objective. Raises BadInput where it does not."""
    if held is None:
        raise BadInput("this objective needs it", field=f"Batch.{name}")
    return held
