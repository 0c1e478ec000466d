"""One sequence being read and written: the model, its cache, and the ids that the cache holds.

N new tokens · X of them whose logits are asked for · V vocabulary.   Read next: infer/language.py, nn/cache.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cutaway.infer.decoding import Decoding
from cutaway.infer.kernel_steps import KernelSteps
from cutaway.infer.shortlist import Shortlist, serves
from cutaway.models.decoder import DecoderModel
from cutaway.nn.cache import CacheError
from cutaway.nn.context import Context
from cutaway.nn.narrow_cache import contiguous
from cutaway.nn.quantised import QuantisedLinear
from cutaway.nn.rope_scaling import DynamicNtk
from cutaway.ops.forms import Forms

ROOM = 4096  # most tokens to make room for before they come: who asks for a billion tokens rarely gets them


class Continuation:
    """`feed` takes ids in and gives the logits behind the last; `rewind` keeps what a new prompt shares. `attempt`
    takes in guesses too, of which `back` takes back the last."""

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
        # Whether some of what is held is a state, which cannot be cut.
        self.stateful = any(stream.per == "sequence" for kept in module.spec.streams() for stream in kept)
        self.steps = KernelSteps.of(module, forms)  # what runs passes of a few tokens where our kernels do, or None
        self._listed: Shortlist | None = None  # of the last pass
        self._start(room=256)

    def _start(self, room: int) -> None:
        self.ids: list[int] = []
        self._mark: Any = (0, None)  # where a state stood when the last attempt began: tokens, and the cache's mark
        self.prompt = 0  # tokens of the prompt, where dynamic NTK fixes its base
        # Kernels read keys and values in fp16, half the bytes: at 2,000 tokens a step takes 0.7 of the time with fp32.
        half = torch.float16 if self.steps is not None else None
        self.cache = contiguous(
            self.module.spec.streams(),
            half if self.kept is None else self.kept,
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
        if self.steps is not None:
            self.steps.begin()
        return list(ids[len(self.ids) :])

    @property
    def by_prompt(self) -> bool:
        """Whether what is held depends on the prompt's length."""
        ropes = [getattr(block.mixer, "rope", None) for block in self.module.spec.blocks]
        return any(isinstance(rope.scaling, DynamicNtk) for rope in ropes if rope is not None)

    def feed(self, ids: Sequence[int]) -> Tensor:
        """Takes in the ids (at least one); returns the logits (V,) of what comes next."""
        return self._pass(ids, 1)[0]

    def attempt(self, ids: Sequence[int], guesses: Sequence[int]) -> Tensor:
        """Takes in the ids (at least one), then the guesses, in one pass; returns the logits (X, V) behind the last of
        the ids and behind each guess."""
        if guesses and self.stateful:
            self._mark = len(self.ids), self.cache.snapshot(0)
        return self._pass([*ids, *guesses], 1 + len(guesses))

    def back(self, count: int) -> list[int]:
        """Forgets the last `count` ids, of the guesses of the last attempt. Returns those that are to be taken in again
        with the next: a state goes back to where the attempt began, however many guesses were right."""
        end, again = len(self.ids) - count, []
        if count and self.stateful:
            began, mark = self._mark
            self.cache.restore(0, mark)
            end, again = began, self.ids[began:end]
        elif count:
            self.cache.truncate(0, end)
        del self.ids[end:]
        return again

    @torch.inference_mode()
    def _pass(self, ids: Sequence[int], last: int) -> Tensor:
        # A long prompt is torch's where bfloat16 was found to pay: its products are faster then than ours in float32.
        steps = self.steps if self.forms.narrow(len(ids), self.formats) is None else None
        if steps is not None and steps.takes(len(ids), last, self.cache):
            logits_XV = steps.run(ids, last, self._context)
            self.ids += ids
            return logits_XV
        rows_X = torch.arange(len(ids) - last, len(ids), device=self.device) if len(ids) > last else None
        ids_N = torch.tensor(ids, device=self.device)
        logits_XV, _ = self.module(ids_N, self._context(len(ids)), rows_X)
        self.ids += ids
        return logits_XV

    def shortlist(self, logits_XV: Tensor, decoding: Decoding) -> Shortlist | None:
        """The likeliest of each row, where kernels made the logits and all that `decoding` asks for is in a list: right
        until the next is asked for."""
        if self.steps is None or logits_XV.dtype != torch.float32 or not serves(decoding):
            return None
        with torch.inference_mode():
            self._listed = Shortlist(logits_XV, (decoding,) * len(logits_XV), before=self._listed)
        return self._listed

    def _context(self, count: int) -> Context:
        return Context.of(
            (count,),
            cache=self.cache,
            device=self.device,
            forms=self.forms,
            prompts=(self.prompt,),
            narrow=self.forms.narrow(count, self.formats),
        )
