"""One sequence being read and written: the model, its cache, and the ids that the cache holds.

N new tokens · V vocabulary.   Read next: infer/language.py, nn/cache.py
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cutaway.models.decoder import DecoderModel
from cutaway.nn.cache import CacheError
from cutaway.nn.context import Context
from cutaway.nn.narrow_cache import contiguous
from cutaway.nn.quantised import QuantisedLinear
from cutaway.nn.rope_scaling import DynamicNtk
from cutaway.ops.forms import Forms

ROOM = 4096  # most tokens to make room for before they come: who asks for a billion tokens rarely gets them


class Continuation:
    """`feed` takes ids in and gives the logits behind the last; `rewind` keeps what a new prompt shares."""

    def __init__(
        self,
        module: DecoderModel,
        forms: Forms,
        *,
        dtype: torch.dtype,
        device: torch.device,
        kept: torch.dtype | None = None,
    ):
        self.module, self.forms, self.dtype, self.device, self.kept = module, forms, dtype, device, kept
        linear = [part.packed.format.name for part in module.modules() if isinstance(part, QuantisedLinear)]
        self.formats = frozenset(linear if device.type == "cpu" and dtype == torch.float32 else ())
        self._start(room=256)

    def _start(self, room: int) -> None:
        self.ids: list[int] = []
        self.prompt = 0  # tokens of the prompt, where dynamic NTK fixes its base
        self.cache = contiguous(
            self.module.spec.streams(),
            self.kept,
            dtype=self.dtype,
            device=self.device,
            capacity=min(room, self.module.spec.length, ROOM),
        )

    def rewind(self, ids: Sequence[int], room: int) -> list[int]:
        """Keeps the longest beginning that `ids` shares with what is held; returns the ids still to be fed (at least
        one). `room`: tokens to make room for."""
        shared = 0
        for held, asked in zip(self.ids, ids[:-1], strict=False):
            if held != asked:
                break
            shared += 1
        try:
            if shared == 0 or self.by_prompt:
                raise CacheError("nothing to keep")
            self.cache.truncate(0, shared)
            self.ids = self.ids[:shared]
        except CacheError:  # a window or a state that cannot go back so far: read all of it again
            self._start(room)
        self.prompt = len(ids)
        return list(ids[len(self.ids) :])

    @property
    def by_prompt(self) -> bool:
        """Whether what is held depends on the prompt's length."""
        ropes = [getattr(block.mixer, "rope", None) for block in self.module.spec.blocks]
        return any(isinstance(rope.scaling, DynamicNtk) for rope in ropes if rope is not None)

    @torch.inference_mode()
    def feed(self, ids: Sequence[int]) -> Tensor:
        """Takes in the ids (at least one); returns the logits (V,) of what comes next."""
        ids_N = torch.tensor(ids, device=self.device)
        context = Context.of(
            (len(ids),),
            cache=self.cache,
            device=self.device,
            forms=self.forms,
            prompts=(self.prompt,),
            narrow=self.forms.narrow(len(ids), self.formats),
        )
        last = ids_N.new_tensor([len(ids) - 1]) if len(ids) > 1 else None
        logits_1V, _ = self.module(ids_N, context, last)
        self.ids += ids
        return logits_1V[0]
