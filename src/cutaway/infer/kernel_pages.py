"""The engine's passes as lists of kernels: tokens of many sequences at once, whose keys and values lie in pages.

Steps of decoding, parts of prompts, guesses and prompts that are scored are all rows to the lists of
infer/kernel_plan.py: each says which sequence it is of, and where in it. A pass is cut into pieces of at most `MOST`
rows. Each sequence has a row in the page tables that kernels read; what a pass may have changed there is written before
it, and no more: pages behind the first new token.
N tokens of all parts, flat · X of them whose logits are asked for · V vocabulary.
Read next: infer/kernel_plan.py, infer/paged.py, infer/runner.py
"""

from __future__ import annotations

import ctypes
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.base.errors import CutawayError
from cutaway.infer.kernel_caches import fits, tell
from cutaway.infer.kernel_plan import Plan
from cutaway.infer.kernel_reach import rooms
from cutaway.infer.kernel_shelf import Shelf, alike, parts_of
from cutaway.infer.kernel_sizes import MOST
from cutaway.infer.kernel_steps import STEADY
from cutaway.infer.paged import PagedCache
from cutaway.infer.scheduler import Part
from cutaway.infer.stretches import Stretch, cut, flat
from cutaway.models.decoder import DecoderModel
from cutaway.nn.context import Context
from cutaway.ops.cpu.cache import Store


class KernelPages:
    """Runs passes over the pages of a cache. `sequences`: those that may take part in one. `steady`: a token's logits
    do not depend on who else is in its pass."""

    def __init__(
        self, module: DecoderModel, cache: PagedCache, *, sequences: int, int8: bool, length: int, steady: bool
    ):
        self.module, self.cache, self.multiple = module, cache, STEADY if steady else 1
        self.int8, self._sequences, self._width = int8, sequences, -(-length // cache.tables.page) + 1
        self.review()

    def review(self) -> None:
        """The module's parts may have been replaced."""
        self.shelf, self._parts = Shelf.of(self.module, int8=self.int8), parts_of(self.module)
        self._kept, places = rooms(self.module)
        # Of each sequence its row in the tables, and the list of its pages when it got there.
        self._slots: dict[int, tuple[int, list[list[int]]]] = {}
        self._free = list(range(self._sequences))
        self._tables: dict[int, np.ndarray] = {}
        # Who asks for a review has seen weights change: a plan looks at all of its own before its first pass, and need
        # not look again while the runner, which looks before each, sees them stay.
        self._known: Plan | None = None
        for layer, kept in enumerate(places):
            block: Any = self.module.blocks[layer]
            if kept is not None:
                names = [stream.name for stream in block.mixer.spec.streams(self.module.spec.dim)]
                first, second = (self.cache.pages[layer, name].flatten(0, 1) for name in names)
                assert fits(block.mixer.spec, first), "pages that kernels do not read"
                tell(kept, first, second, partial(self._store, self.cache.pool[layer, names[0]]))

    def _store(self, pool: int, keys: Tensor, values: Tensor, **more: Tensor) -> Store:
        if pool not in self._tables:
            self._tables[pool] = np.zeros((self._sequences, self._width), dtype=np.int64)
        table = torch.from_numpy(self._tables[pool])
        return Store(keys=keys, values=values, table=table, page=self.cache.tables.page, **more)

    def run(self, parts: Sequence[Part], context: Callable[[Sequence[Stretch]], Context]) -> Tensor:
        """The logits (X, V) as `infer.runner.Runner.run` gives them. Takes one step of the parts' sequences. `context`:
        what torch is told where it runs a part of the pass."""
        ids, positions, asked = flat(parts)
        rows, slots = sorted(asked), []
        logits_XV = torch.empty(len(rows) + self.multiple - 1, self.module.spec.vocab)
        with self.shelf.lent(self.module, 1 + max(positions), known=self._known) as plan:
            self._known = plan
            if not alike(plan, self._parts, self._kept):
                self.review()
                if not alike(plan, self._parts, self._kept):
                    raise CutawayError("parts of the model were replaced while it ran")
            for part in parts:
                slots += [self._slot(part, parts)] * part.count
            for start, stretches in zip(range(0, len(ids), MOST), cut(parts, MOST), strict=True):
                here, count = slice(start, start + MOST), min(MOST, len(ids) - start)
                first, last = bisect_left(rows, start), bisect_left(rows, start + count)
                wanted = [row - start for row in rows[first:last]]
                told = context(stretches) if plan.wants_torch else None
                plan.take(ids[here], positions[here], slots[here], wanted, self.multiple)
                for kept in plan.places:
                    plan.see(kept, positions[here])
                ctypes.memmove(plan.kept, self._kept, len(self._kept))
                plan.run(self.module, count, logits_XV[first:] if first else logits_XV, told)
                for part, at, to in stretches:
                    self.cache.tables.advance(part.sequence.number, to - at)
        if rows != asked:
            return logits_XV.index_select(0, torch.tensor([bisect_left(rows, row) for row in asked]))
        return logits_XV if self.multiple == 1 else logits_XV[: len(rows)]

    def _slot(self, part: Part, parts: Sequence[Part]) -> int:
        """The row of a part's sequence in the tables, which holds all pages up to the part's end."""
        owner, page = part.sequence.number, self.cache.tables.page
        pages, known = self.cache.tables.all_rows(owner), self._slots.get(owner)
        if known is not None and known[1] is pages:
            # Pages before the part's first token are what they were: only what is not yet written is ever copied.
            slot, begin = known[0], part.start // page
        else:  # a new sequence, or one that gave all its pages back meanwhile
            slot, begin = known[0] if known is not None else self._vacant(parts), 0
            self._slots[owner] = slot, pages
        end = -(-(part.start + part.count) // page)
        for pool, table in self._tables.items():
            held = pages[pool]
            if end - begin == 1:
                table[slot, begin] = max(held[begin], 0) * page
            else:
                table[slot, begin:end] = np.maximum(held[begin:end], 0) * page
        return slot

    def _vacant(self, parts: Sequence[Part]) -> int:
        if not self._free:
            present = {part.sequence.number for part in parts}
            for owner in [one for one in self._slots if one not in present]:
                self._free.append(self._slots.pop(owner)[0])
        return self._free.pop()
