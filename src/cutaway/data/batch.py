"""A batch: sequences of any length laid end to end, and what is to be learned from each token.

There is no padding. `targets_N[n]` is what the model should say at token n; IGNORE where nothing is asked.
N tokens of all sequences, flat · B sequences.   Read next: train/fit.py
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cutaway.base.errors import BadInput

IGNORE = -100  # torch's own mark for "no target here"


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """`lengths`: tokens of each sequence (their sum is N); no sequence sees another. `targets_N`: see above.

    `prefix`: leading tokens of each sequence that all its tokens may see (prefix-LM). `kinds_N`: BERT's token types.
    `labels_B`: one class for each sequence. `source`: what an encoder reads, one sequence for each of ours.
    """

    ids_N: Tensor
    lengths: tuple[int, ...]
    targets_N: Tensor | None = None
    prefix: tuple[int, ...] | None = None
    kinds_N: Tensor | None = None
    labels_B: Tensor | None = None
    source: Batch | None = None

    def __post_init__(self) -> None:
        tokens = sum(self.lengths)
        for name in ("ids_N", "targets_N", "kinds_N"):
            held = getattr(self, name)
            if held is not None and held.shape != (tokens,):
                shape = tuple(held.shape)
                raise BadInput(f"the lengths sum to {tokens}, the shape is {shape}", field=f"Batch.{name}")
        sequences = len(self.lengths)
        told = {"prefix": self.prefix, "labels_B": self.labels_B, "source": self.source and self.source.lengths}
        for name, held in told.items():
            if held is not None and len(held) != sequences:
                raise BadInput(f"{sequences} sequences, {len(held)} here", field=f"Batch.{name}")

    @property
    def tokens(self) -> int:
        """Tokens that go through a model, the encoder's included."""
        return sum(self.lengths) + (self.source.tokens if self.source is not None else 0)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch elsewhere. From pinned memory the copy runs beside the arithmetic."""
        return self._each(lambda held: held.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """The same batch in page-locked memory, from which a GPU copies without waiting."""
        return self._each(Tensor.pin_memory)

    def _each(self, change) -> Batch:
        tensors = {name: getattr(self, name) for name in ("ids_N", "targets_N", "kinds_N", "labels_B")}
        moved = {name: change(held) for name, held in tensors.items() if held is not None}
        source = None if self.source is None else self.source._each(change)
        return replace(self, source=source, **moved)
