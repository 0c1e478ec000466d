"""Texts that a decoder goes on with, several side by side: the model, and a cache whose rows can be rearranged.

What `Targets` is to an encoder-decoder. B texts · N tokens of all prompts · V vocabulary · D model dim.
Read next: infer/search.py, infer/contrastive.py, nn/cache.py
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from cutaway.models.decoder import DecoderModel
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.ops.forms import Forms

ROOM = 4096  # most tokens to make room for before they come


class Prompted:
    """`start` reads the prompts, `feed` takes one token of each text, `select` rearranges the texts."""

    never: tuple[int, ...] = ()

    def __init__(self, module: DecoderModel, forms: Forms, *, dtype: torch.dtype, device: torch.device):
        self.module, self.forms, self.dtype, self.device = module, forms, dtype, device
        self.cache = ContiguousCache(module.spec.streams(), sequences=0, dtype=dtype, device=device)
        self.hidden_ND = torch.empty(0)  # of the tokens taken in last, as the head sees them

    @torch.inference_mode()
    def start(self, prompts: Sequence[Sequence[int]], room: int) -> Tensor:
        """Reads the prompts; returns the logits (B, V) of what comes behind each. `room`: tokens expected."""
        lengths = tuple(len(ids) for ids in prompts)
        self.cache = ContiguousCache(
            self.module.spec.streams(),
            sequences=len(prompts),
            dtype=self.dtype,
            device=self.device,
            capacity=min(max(lengths) + room, self.module.spec.length, ROOM),
        )
        self.prompts = lengths
        return self._pass([id for ids in prompts for id in ids], lengths)

    @torch.inference_mode()
    def feed(self, tokens: Sequence[int]) -> Tensor:
        """Takes one token of each text; returns the logits (B, V) of what comes next."""
        return self._pass(tokens, (1,) * len(tokens))

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        """Makes text i a copy of what text `rows[i]` was."""
        if list(rows) != list(range(len(self.cache.lengths))):
            self.cache.select(rows)
            self.prompts = tuple(self.prompts[row] for row in rows)

    def _pass(self, tokens: Sequence[int], lengths: tuple[int, ...]) -> Tensor:
        context = Context.of(lengths, cache=self.cache, device=self.device, forms=self.forms, prompts=self.prompts)
        x_ND, _ = self.module.hidden(torch.tensor(tokens, device=self.device), context)
        self.hidden_ND = x_ND if self.module.norm is None else self.module.norm(x_ND, context)
        last = torch.tensor([end - 1 for end in accumulate(lengths)], device=self.device)
        return self.module.logits(x_ND[last], context)
