"""Whether tensors are still what they were: held under the same names, lying where they lay, not written to since.

A small model's step takes milliseconds, and a look at each of its hundreds of tensors, which lie all over memory, a
twentieth of that. So floats are looked at every time, as an optimiser may write to them between any two tokens; packed
weights, which nobody writes to but who replaces them, in turn: a part of them each time, so that what changes is seen
within TURNS looks, and all of them where a text begins.
Writing through `.data` shows nowhere: torch counts no version of it.
Read next: infer/runner.py, infer/kernel_shelf.py
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

TURNS = 8
"""Looks within which each tensor that holds no floats is looked at."""

Name = tuple[Mapping[str, Any], str]
"""Who holds a tensor, and under which name."""


class Watch:
    """Over tensors that are held under these names, and over how many `others` hold. It keeps the tensors, so that no
    other one can come to lie where one lay."""

    def __init__(self, names: Iterable[Name], others: Iterable[Mapping[str, Any]] = ()):
        known = [(held, name, held[name], *_state(held[name])) for held, name in names]
        self._always = [one for one in known if _floats(one[2])]
        rest, sizes = [one for one in known if not _floats(one[2])], [(held, len(held)) for held in others]
        self._turns = [(rest[turn::TURNS], sizes[turn::TURNS]) for turn in range(TURNS)]
        self._turn = 0
        self.tensors = [one[2] for one in known if one[2] is not None]

    @classmethod
    def over(cls, module: nn.Module) -> Watch:
        """All of a module's tensors, and whether it gets more."""
        held = [held for part in module.modules() for held in (part._parameters, part._buffers)]
        return cls(((one, name) for one in held for name in one), held)

    def same(self, *, whole: bool = False) -> bool:
        """Whether those that are looked at this time are what they were. `whole`: all of them."""
        turns = self._turns if whole else self._turns[self._turn : self._turn + 1]
        self._turn = (self._turn + 1) % TURNS
        return _same(self._always) and all(
            _same(rest) and all(len(held) == size for held, size in sizes) for rest, sizes in turns
        )


def _same(known: list[tuple[Mapping[str, Any], str, Tensor | None, int, int]]) -> bool:
    return all(held.get(name) is one and _state(one) == (place, version) for held, name, one, place, version in known)


def _floats(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.is_floating_point()


def _state(tensor: Tensor | None) -> tuple[int, int]:
    """Where it lies, and how often it was written to (of those of inference mode nobody counts it). A name may also be
    there for no tensor, such as that of a bias."""
    if tensor is None:
        return 0, 0
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version
