"""A step of decoding as one call: the lists of infer/kernel_plan.py over the contiguous cache of one sequence.

What a model computes stays what it is with fp32 activations, but for the order of sums; int8 activations round them in
groups of 32 (ops/cpu/pack.py). Lists are made once for each number of tokens and used for as long as the weights stay
where they are; the kernels write keys and values into the cache's own buffers, so that torch reads the same ones.
N tokens · X of them whose logits are asked for · V vocabulary.   Read next: infer/kernel_plan.py, infer/continuation.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from cutaway.infer.kernel_caches import Kept, fits, tell
from cutaway.infer.kernel_plan import Plan, listed, readable, room_for
from cutaway.models.decoder import DecoderModel
from cutaway.nn.block import BlockModule
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.narrow_cache import NarrowCache
from cutaway.nn.rows import Rows
from cutaway.ops.cpu.build import library
from cutaway.ops.cpu.cache import Store
from cutaway.ops.cpu.list import Operations
from cutaway.ops.cpu.multiply import multiply_kernels, multiply_kernels_int8
from cutaway.ops.forms import FAST, Forms

FIRST_ROOM = 1024
START = torch.zeros(1, dtype=torch.long)  # where the rows of the one sequence begin


class KernelSteps:
    """Runs passes of a few tokens of one sequence. Made by `of`, which knows where it serves."""

    pieces: ClassVar[tuple[int, ...]] = (64, 32, *range(16, 0, -1))
    """What passes are cut into, so that lists of few sizes serve prompts of every length. Of more rows at a time no
    kernel is faster: 128 and 512 took as long for each."""

    def __init__(self, module: DecoderModel, *, int8: bool):
        self.module, self.int8, self.room = module, int8, FIRST_ROOM
        self._plans: dict[tuple[int, int], Plan] = {}
        self._cache: ContiguousCache | None = None
        # Of each layer whose mixer kernels do: what they are told of its cache, and whose rows that are.
        self._told = [room_for(self._mixer(layer)) for layer in range(len(module.blocks))]
        self._held: list[tuple[Rows, Rows, Kept, int | None]] = []
        self._stores: dict[int, tuple[Tensor, Tensor]] = {}

    @classmethod
    def of(cls, module: DecoderModel, forms: Forms) -> KernelSteps | None:
        """For a module whose quantised products `forms` leaves to our kernels; None where another form of anything is
        asked for (a reader's own runs as it is), where no part of it is listed, or where there are no kernels."""
        kinds = {multiply_kernels: False, multiply_kernels_int8: True}
        usual = replace(FAST, multiply=forms.multiply, narrow=forms.narrow, absorb=forms.absorb)
        if forms.multiply not in kinds or forms != usual or not readable(module):
            return None
        if not listed(module) or library() is None:
            return None
        return cls(module, int8=kinds[forms.multiply])

    def takes(self, count: int, last: int, cache: object) -> bool:
        """Whether it runs a pass of so many tokens, logits for the last ones, over this cache."""
        plain = cache.view if isinstance(cache, NarrowCache) else cache
        whole = last == 1 or count in self.pieces  # not cut where several are asked for
        if count < 1 or not whole or self.module.training or not isinstance(plain, ContiguousCache):
            return False
        return self._bound(plain)

    def _bound(self, cache: ContiguousCache) -> bool:
        if cache is not self._cache:
            self._cache = None
            if len(cache.lengths) != 1 or not self._bind(cache):
                return False
            self._cache = cache
        return True

    def run(self, ids: Sequence[int], last: int, context: Callable[[int], Context]) -> Tensor:
        """Takes in the ids; returns the logits (X, V) behind the last `last` of them. The cache is the one that `takes`
        was asked about. `context`: what torch is told where it runs a part of a pass of so many tokens."""
        left = list(ids)
        while len(left) not in self.pieces:
            piece = next(size for size in self.pieces if size < len(left))
            self._piece(left[:piece], 0, context)
            del left[:piece]
        return self._piece(left, last, context)

    def _piece(self, ids: Sequence[int], last: int, context: Callable[[int], Context]) -> Tensor:
        cache, count = self._cache, len(ids)
        assert cache is not None
        start = cache.lengths[0]
        plan = self._plan(count, last, start + count)
        told = context(count) if any(not isinstance(segment, Operations) for segment in plan.segments) else None
        plan.ids.numpy()[:] = ids
        plan.positions.numpy()[:] = range(start, start + count)
        for window, begin in self._extend(count).items():
            places, ends = plan.places[window]
            places.numpy()[:] = range(begin, begin + count)
            ends.numpy()[:] = range(begin + 1, begin + 1 + count)
        logits_XV = self._through(plan, told)
        cache.advance((count,))
        softcap = self.module.spec.softcap
        if softcap is not None and plan.product_of_head is not None:
            logits_XV = softcap * torch.tanh(logits_XV / softcap)
        return logits_XV

    def _through(self, plan: Plan, context: Context | None) -> Tensor:
        logits_XV = torch.empty(0)
        if plan.product_of_head is not None:
            logits_XV = torch.empty(plan.last, self.module.spec.vocab)
            plan.product_of_head.out.y = logits_XV.data_ptr()
        for index, segment in enumerate(plan.segments):
            if isinstance(segment, Operations):
                segment.run()
                continue
            assert context is not None
            y_ND = segment(plan.x_ND, context)
            if plan.last and index + 1 == len(plan.segments):
                return y_ND  # the head's
            plan.x_ND.copy_(y_ND)
        return logits_XV

    def _plan(self, count: int, last: int, end: int) -> Plan:
        if end > self.room:
            self.room = max(end, 2 * self.room)
            self._plans.clear()
        plan = self._plans.get((count, last))
        if plan is None or plan.stamps != plan.where():
            # Lists keep addresses: what is made here must outlive inference mode, and gradients are not wanted.
            with torch.inference_mode(False), torch.no_grad():
                told = {"rows": count, "last": last, "room": self.room, "int8": self.int8}
                plan = self._plans[count, last] = Plan(self.module, self._told, **told)
        return plan

    def _mixer(self, layer: int) -> Any:
        block = self.module.blocks[layer]
        assert isinstance(block, BlockModule)
        return block.mixer

    def _bind(self, cache: ContiguousCache) -> bool:
        """Finds the rows of each layer that kernels write; False where they are not plain ones."""
        self._held, self._stores = [], {}
        for layer, told in enumerate(self._told):
            if told is None:
                continue
            spec = self._mixer(layer).spec
            first, second = (stream.name for stream in spec.streams(self.module.spec.dim))
            keys, values = cache.rows(layer, first)[0], cache.rows(layer, second)[0]
            if not isinstance(keys, Rows) or not isinstance(values, Rows) or not fits(spec, keys.buffer):
                return False
            self._held.append((keys, values, told, getattr(spec, "window", None)))
        return True

    def _extend(self, count: int) -> dict[int | None, int]:
        """Makes room for the pass's rows in every layer; returns where they begin, by window."""
        begins: dict[int | None, int] = {}
        for index, (keys, values, told, window) in enumerate(self._held):
            begins[window] = keys.extend(count)
            values.extend(count)
            known = self._stores.get(index)
            if known is None or known[0] is not keys.buffer or known[1] is not values.buffer:
                self._stores[index] = (keys.buffer, values.buffer)
                tell(told, keys.buffer, values.buffer, _store)
        return begins


def _store(keys: Tensor, values: Tensor, more: Tensor | None = None) -> Store:
    return Store.contiguous(keys, values, START, more)
