"""Targets that are being written for a batch of sources: the model, and a cache whose memory is filled once.

B targets · V vocabulary.   Read next: infer/seq2seq.py, nn/cache.py
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cutaway.data.batch import Batch
from cutaway.models.encoder_decoder import EncoderDecoderModel
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.ops.forms import Forms

ROOM = 4096  # most tokens to make room for before they come


class Targets:
    """`start` reads the sources, `feed` takes one token of each target, `select` rearranges the targets."""

    def __init__(self, module: EncoderDecoderModel, forms: Forms, *, dtype: torch.dtype, device: torch.device):
        self.module, self.forms, self.dtype, self.device = module, forms, dtype, device
        self.never = module.spec.never
        self.cache = ContiguousCache(module.spec.streams(), sequences=0, dtype=dtype, device=device)

    @torch.inference_mode()
    def start(self, sources: Sequence[Sequence[int]], room: int) -> Tensor:
        """Reads the sources; returns the logits (B, V) of each target's first token. `room`: tokens expected."""
        self.cache = ContiguousCache(
            self.module.spec.streams(),
            sequences=len(sources),
            dtype=self.dtype,
            device=self.device,
            capacity=min(room, ROOM),
        )
        flat = torch.tensor([id for ids in sources for id in ids], device=self.device)
        return self._pass([self.module.spec.start] * len(sources), Batch(ids_N=flat, lengths=_lengths(sources)))

    @torch.inference_mode()
    def feed(self, tokens: Sequence[int]) -> Tensor:
        """Takes one token of each target; returns the logits (B, V) of what comes next."""
        return self._pass(tokens, None)

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        """Makes target i a copy of what target `rows[i]` was."""
        if list(rows) != list(range(len(self.cache.lengths))):
            self.cache.select(rows)

    def _pass(self, tokens: Sequence[int], source: Batch | None) -> Tensor:
        context = Context.of((1,) * len(tokens), cache=self.cache, device=self.device, forms=self.forms)
        logits_BV, _ = self.module(torch.tensor(tokens, device=self.device), context, source=source)
        return logits_BV


def _lengths(sources: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(len(ids) for ids in sources)
