"""A step of decoding as one call: the lists of infer/kernel_plan.py over the contiguous cache of one sequence.

What a model computes stays what it is with fp32 activations, but for the order of sums; int8 activations round them in
groups of 32 (ops/cpu/pack.py). The kernels write keys and values into the cache's own buffers, so that torch reads the
same ones. The sibling over pages is infer/kernel_pages.py.
N tokens · X of them whose logits are asked for · V vocabulary.   Read next: infer/kernel_plan.py, infer/continuation.py
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cutaway.base.errors import BadInput, CutawayError
from cutaway.infer.kernel_caches import Kept, Rolling, fits, rolling, tell
from cutaway.infer.kernel_plan import Plan
from cutaway.infer.kernel_reach import asked, rooms
from cutaway.infer.kernel_shelf import Shelf, alike, parts_of
from cutaway.infer.kernel_sizes import MOST
from cutaway.models.decoder import DecoderModel
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.narrow_cache import NarrowCache
from cutaway.nn.rows import Rows
from cutaway.ops.cpu.cache import Store
from cutaway.ops.forms import Forms

START = torch.zeros(1, dtype=torch.long)  # where the rows of the one sequence begin
STEADY = 4
"""Rows that are multiplied one or two at a time are summed in another order than in larger tiles (multiply_exact.cpp):
in multiples of four there are no such tiles, and a row's result is the same whoever stands beside it."""


class KernelSteps:
    """Runs passes of tokens of one sequence. Made by `of`, which knows where it serves. `steady`: a token's logits do
    not depend on how many come with it."""

    def __init__(self, module: DecoderModel, *, int8: bool, steady: bool = False):
        self.module, self.multiple, self.int8 = module, STEADY if steady else 1, int8
        self.review()

    def review(self) -> None:
        """The module's parts may have been replaced."""
        self.shelf, self._parts = Shelf.of(self.module, int8=self.int8), parts_of(self.module)
        self._cache: ContiguousCache | None = None
        # Of each layer whose mixer kernels do: what they are told of its cache, and whose rows that are.
        self._kept, self._told = rooms(self.module)
        self._held: list[tuple[Rows, Rows, Kept, Rolling]] = []
        self._stores: dict[int, tuple[Tensor, Tensor]] = {}
        self._fresh = True

    def begin(self) -> None:
        """Another text begins: all weights are looked at before it is read."""
        self._fresh = True

    @classmethod
    def of(cls, module: DecoderModel, forms: Forms, *, steady: bool = False) -> KernelSteps | None:
        """For a module and forms that ask for lists (`kernel_reach.asked`); else None."""
        int8 = asked(module, forms)
        return None if int8 is None else cls(module, int8=int8, steady=steady)

    def takes(self, count: int, last: int, cache: object) -> bool:
        """Whether it runs a pass of so many tokens, logits for the last ones, over this cache."""
        plain = cache.view if isinstance(cache, NarrowCache) else cache
        if not 0 <= last <= count or not count or self.module.training or not isinstance(plain, ContiguousCache):
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
        cache, filling = self._cache, self.multiple - 1
        assert cache is not None
        wrong = next((id for id in ids if not 0 <= id < self.module.spec.vocab), None)
        if wrong is not None:  # kernels look it up unasked
            raise BadInput(f"token id {wrong} is outside the vocabulary of {self.module.spec.vocab}", field="ids")
        logits_XV, done, first = torch.empty(last + filling, self.module.spec.vocab), 0, len(ids) - last
        with self.shelf.lent(self.module, cache.lengths[0] + len(ids), whole=self._fresh) as plan:
            self._fresh = False
            if not alike(plan, self._parts, self._kept):
                self.review()
                if not alike(plan, self._parts, self._kept) or not self._bound(cache):
                    raise CutawayError("parts of the model were replaced by some that cannot go on with this text")
            for start in range(0, len(ids), MOST):
                piece = ids[start : start + MOST]
                wanted = range(max(0, first - start), len(piece))
                self._piece(plan, piece, wanted, logits_XV[done:], context)
                done += len(wanted)
        return logits_XV[:last]

    def _piece(
        self, plan: Plan, ids: Sequence[int], wanted: range, out_XV: Tensor, context: Callable[[int], Context]
    ) -> None:
        cache, count = self._cache, len(ids)
        assert cache is not None
        start = cache.lengths[0]
        told = context(count) if plan.wants_torch else None
        plan.take(ids, range(start, start + count), (0,) * count, wanted, self.multiple)
        for kept, begin in self._extend(count).items():
            plan.see(kept, range(begin, begin + count))
        ctypes.memmove(plan.kept, self._kept, len(self._kept))
        plan.run(self.module, count, out_XV, told)
        cache.advance((count,))

    def _bind(self, cache: ContiguousCache) -> bool:
        """Finds the rows of each layer that kernels write; False where they are kept as kernels do not read."""
        self._held, self._stores = [], {}
        for layer, told in enumerate(self._told):
            if told is None:
                continue
            block: Any = self.module.blocks[layer]
            spec = block.mixer.spec
            first, second = (stream.name for stream in spec.streams(self.module.spec.dim))
            keys, values = cache.rows(layer, first)[0], cache.rows(layer, second)[0]
            if not fits(spec, keys.buffer):
                return False
            self._held.append((keys, values, told, rolling(block.mixer)))
        return True

    def _extend(self, count: int) -> dict[Rolling, int]:
        """Makes room for the pass's rows in every layer; returns where they begin, by what is kept."""
        begins: dict[Rolling, int] = {}
        for index, (keys, values, told, kept) in enumerate(self._held):
            begins[kept] = keys.extend(count)
            values.extend(count)
            known = self._stores.get(index)
            if known is None or known[0] is not keys.buffer or known[1] is not values.buffer:
                self._stores[index] = (keys.buffer, values.buffer)
                tell(told, keys.buffer, values.buffer, _store)
        return begins


def _store(keys: Tensor, values: Tensor, more: Tensor | None = None) -> Store:
    return Store.contiguous(keys, values, START, more)
