"""The plans of each module, made once and lent to one pass at a time: whoever reads or writes a text takes one.

A plan has arrays of its own, so two threads need two; passes one after the other, of however many texts and engines,
share one. Making one takes some 20 ms for 30 layers, and lists keep to where the weights lie: a plan whose weights were
put elsewhere, or written to, is thrown away. Plans go when their module goes.   Read next: infer/kernel_plan.py
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch.utils._python_dispatch import _disable_current_modes

from cutaway.infer.kernel_plan import Plan
from cutaway.models.decoder import DecoderModel

LENGTH = 65536
"""Tokens that plans have room for, where a model is made for more; a longer sequence has another one made."""

_making = threading.Lock()  # packing weights in strips, and looking up shelves, are one thread's at a time
_shelves: weakref.WeakKeyDictionary[DecoderModel, dict[bool, Shelf]] = weakref.WeakKeyDictionary()


class Shelf:
    """Plans of one module and one kind of activations: those that nobody uses just now."""

    def __init__(self, *, int8: bool):
        self.int8 = int8
        self.idle: list[Plan] = []

    @classmethod
    def of(cls, module: DecoderModel, *, int8: bool) -> Shelf:
        """The one that all users of a module share. Plans of parts that were replaced meanwhile are thrown away."""
        with _making:
            shelf = _shelves.setdefault(module, {}).setdefault(int8, cls(int8=int8))
        parts = parts_of(module)
        for plan in list(shelf.idle):
            if not _same(plan.made_of, parts):
                with suppress(ValueError):  # somebody took it meanwhile
                    shelf.idle.remove(plan)
        return shelf

    @contextmanager
    def lent(self, module: DecoderModel, end: int, *, whole: bool = True, known: Plan | None = None) -> Iterator[Plan]:
        """A plan of the module, for sequences of up to `end` tokens. What went wrong is not used again. `whole`: all
        weights are looked at, not only those that are due (infer/watch.py). `known`: the plan whose weights the caller
        knows to be what they were."""
        plan = self._taken(module, end, whole, known)
        if end > plan.turns.room:
            with _plainly():
                plan.turns.grow(end)
        yield plan
        self.idle.append(plan)

    def _taken(self, module: DecoderModel, end: int, whole: bool, known: Plan | None) -> Plan:
        while True:
            try:
                plan = self.idle.pop()  # a list's own lock is enough
            except IndexError:
                break
            if end <= plan.length and (plan is known or plan.weights.same(whole=whole)):
                return plan
        length = min(module.spec.length, LENGTH)
        with _making, _plainly():
            return Plan(module, int8=self.int8, length=length if end <= length else 2 * end)


def parts_of(module: DecoderModel) -> tuple[torch.nn.Module, ...]:
    """All that a plan is made of."""
    return tuple(module.modules())[1:]


def alike(plan: Plan, parts: tuple[torch.nn.Module, ...], kept: ctypes.Array) -> bool:
    """Whether `kept`, what kernels are to be told of the caches of a module with these parts, is in the order of the
    plan's own layers: no part was replaced in between."""
    return plan.made_of == parts and len(plan.kept) == len(kept)


@contextmanager
def _plainly() -> Iterator[None]:
    """What is made here outlives inference mode, wants no gradients, and is the same whoever asks for it: whatever mode
    somebody runs torch in (infer/rounded.py) is not asked."""
    with _disable_current_modes(), torch.inference_mode(False), torch.no_grad():
        yield


def _same(made_of: tuple[torch.nn.Module, ...], parts: tuple[torch.nn.Module, ...]) -> bool:
    return len(made_of) == len(parts) and all(one is other for one, other in zip(made_of, parts, strict=True))
