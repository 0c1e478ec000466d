"""Sequence to sequence: an encoder reads the source, and a decoder says the target token by token.

Sutskever et al. 2014 (arXiv 1409.3215); Vaswani et al. 2017 (arXiv 1706.03762), label smoothing in section 5.4 (0.1).
loss = -sum log p(y[t] | y[..t], x)
The batch holds what the decoder reads (the start id, then the target but for its last token), what it is to say, and
the source.   N tokens, flat.   Read next: models/encoder_decoder.py, train/objectives/spans.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.base.bounds import fractions
from cutaway.data.batch import Batch
from cutaway.models.encoder_decoder import EncoderDecoderModel
from cutaway.nn.context import Context
from cutaway.ops.cross_entropy import cross_entropy_fast
from cutaway.ops.forms import FAST, Forms
from cutaway.train.loss import Loss, asked
from cutaway.train.objectives.causal import told


@dataclass(frozen=True, kw_only=True)
class SequenceToSequence:
    """`z`, `smoothing`, `forms`: as in Causal."""

    splits = True
    z: float = 0.0
    smoothing: float = 0.0
    forms: Forms = FAST

    def __post_init__(self) -> None:
        fractions(self, "z", "smoothing")

    def __call__(self, module: nn.Module, batch: Batch) -> Loss:
        source = told(batch.source, "source")
        targets_N = told(batch.targets_N, "targets_N")
        context = Context.of(batch.lengths, device=batch.ids_N.device, forms=self.forms)

        def score(x_ND: Tensor, weight_VD: Tensor | None, **head: Any) -> Tensor:
            return cross_entropy_fast(x_ND, weight_VD, targets_N, z=self.z, smoothing=self.smoothing, **head)

        if isinstance(module, EncoderDecoderModel):
            x_ND, _ = module.hidden(batch.ids_N, context, source=source)
            total = module.scored(x_ND, context, score)
        else:
            total = score(module(batch.ids_N, context, source=source)[0], None)
        return Loss(total=total, count=asked(targets_N))


def paired(sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], *, start: int) -> Batch:
    """The batch of (source, target) pairs: the decoder reads `start` and all of a target but its last token."""
    read = [id for target in targets for id in ([start, *target][:-1] if target else [])]
    return Batch(
        ids_N=torch.tensor(read, dtype=torch.long),
        lengths=tuple(len(target) for target in targets),
        targets_N=torch.tensor([id for target in targets for id in target], dtype=torch.long),
        source=Batch(
            ids_N=torch.tensor([id for source in sources for id in source], dtype=torch.long),
            lengths=tuple(len(source) for source in sources),
        ),
    )
