"""Whether tensors are still what they were: held under the same names, lying where they lay, not written to since.

A small model's step takes milliseconds, and a look at each of its hundreds of tensors, which lie all over memory, a
tenth of that. So floats are looked at every time, as an optimiser may write to them between any two tokens; packed
weights, which nobody writes to but who replaces them, in turn: a part of them each time, so that what changes is seen
within TURNS looks, and all of them where a text begins.
Writing through `.data` shows nowhere: torch counts no version of it.
Read next: infer/runner.py, infer/kernel_shelf.py
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter, is_
from typing import Any

from torch import Tensor, nn

TURNS = 32
"""Looks within which each tensor that holds no floats is looked at."""

Name = tuple[dict[str, Any], str]
"""Who holds a tensor, and under which name."""

_version = attrgetter("_version")  # how often a tensor was written to


class Watch:
    """Over tensors that are held under these names, and over how many `others` hold. It keeps the tensors, so that no
    other one can come to lie where one lay."""

    def __init__(self, names: Iterable[Name], others: Iterable[dict[str, Any]] = ()):
        floats: list[Name] = []
        rest: list[Name] = []
        for held, name in names:
            one = held[name]
            (floats if one is not None and one.is_floating_point() else rest).append((held, name))
        sizes = list(others)
        self._always = _Watched(floats)
        self._turns = [_Watched(rest[turn::TURNS], sizes[turn::TURNS]) for turn in range(TURNS)]
        self._turn = 0
        self.tensors = [one for watched in (self._always, *self._turns) for one in watched.tensors]

    @classmethod
    def over(cls, module: nn.Module) -> Watch:
        """All of a module's tensors, and whether it gets more."""
        held = [held for part in module.modules() for held in (part._parameters, part._buffers)]
        return cls(((one, name) for one in held for name in one), held)

    def same(self, *, whole: bool = False) -> bool:
        """Whether those that are looked at this time are what they were. `whole`: all of them."""
        turns = self._turns if whole else self._turns[self._turn : self._turn + 1]
        self._turn = (self._turn + 1) % TURNS
        return self._always.same() and all(turn.same() for turn in turns)


class _Watched:
    """Some of them, in columns that functions of C walk along: Python code for each tensor takes longer. A name may
    also be there for no tensor, such as that of a bias; of tensors of inference mode nobody counts writes."""

    def __init__(self, names: Sequence[Name], sizes: Sequence[dict[str, Any]] = ()):
        self._names, self._held = [name for _, name in names], [held for held, _ in names]
        self._found: list[Tensor | None] = [held[name] for held, name in names]
        self.tensors = [one for one in self._found if one is not None]
        self._counted = [one for one in self.tensors if not one.is_inference()]
        self._places, self._versions = list(map(Tensor.data_ptr, self.tensors)), list(map(_version, self._counted))
        self._others, self._sizes = sizes, list(map(len, sizes))

    def same(self) -> bool:
        return (
            all(map(is_, map(dict.get, self._held, self._names), self._found))
            and list(map(Tensor.data_ptr, self.tensors)) == self._places
            and list(map(_version, self._counted)) == self._versions
            and list(map(len, self._others)) == self._sizes
        )
