"""Classification: one class for each sequence, or for each token.

Devlin et al. 2018 (arXiv 1810.04805), sections 4.1 and 5.3.   loss = -sum log softmax(W p)[label]
N tokens, flat · B sequences · C classes.   Read next: models/classifier.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cutaway.base.bounds import fractions
from cutaway.data.batch import Batch
from cutaway.nn.context import Context
from cutaway.ops.cross_entropy import cross_entropy_fast
from cutaway.ops.forms import FAST, Forms
from cutaway.train.loss import Loss, asked
from cutaway.train.objectives.causal import told


@dataclass(frozen=True, kw_only=True)
class _Classification:
    """`causal`: whether the module is a decoder, which sees one way. `forms`: as in Causal.
    Metric `accuracy`: how many were right."""

    splits = True
    smoothing: float = 0.0
    causal: bool = False
    forms: Forms = FAST

    def __post_init__(self) -> None:
        fractions(self, "smoothing")

    def _learn(self, module: nn.Module, batch: Batch, labels: Tensor) -> Loss:
        context = Context.of(batch.lengths, device=batch.ids_N.device, causal=self.causal, forms=self.forms)
        kinds: dict[str, Any] = {} if batch.kinds_N is None else {"kinds_N": batch.kinds_N}
        logits, _ = module(batch.ids_N, context, **kinds)
        hits = (logits.detach().argmax(-1) == labels).sum()  # an ignored label is no class
        total = cross_entropy_fast(logits, None, labels, smoothing=self.smoothing)
        return Loss(total=total, count=asked(labels), metrics={"accuracy": hits})


@dataclass(frozen=True, kw_only=True)
class SequenceClassification(_Classification):
    """The batch brings `labels_B`; the module maps ids to scores (B, C)."""

    def __call__(self, module: nn.Module, batch: Batch) -> Loss:
        return self._learn(module, batch, told(batch.labels_B, "labels_B"))


@dataclass(frozen=True, kw_only=True)
class TokenClassification(_Classification):
    """The batch brings `targets_N`, IGNORE where a token has no class; the module maps ids to scores (N, C)."""

    def __call__(self, module: nn.Module, batch: Batch) -> Loss:
        return self._learn(module, batch, told(batch.targets_N, "targets_N"))
