"""What is made of plain matrices for the kernels, kept for as long as the weights it was made from stay what they are.

    strips(weight)            # made at the first call, the same ones at the next
    strips(query, key, value) # as one matrix, their rows end to end: one product instead of three

A model may be trained meanwhile: an optimiser's step writes into its weights, a loaded state may put other ones in
their place. Both show in where a tensor lies and how often it was written to; then it is made anew. Writing through
`.data` does not show, as torch counts no version there. What is kept goes with the weights that it was made from.
Packed matrices keep their own (ops/packed.py).   Read next: ops/cpu/pack.py
"""

# R rows (outputs) · C columns (inputs)

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import ReferenceType, ref

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from cutaway.ops.cpu.pack import Strips

Stamp = tuple[int, int]
Made = TypeVar("Made")


def stamp(tensor: Tensor | None) -> Stamp:
    """Where a tensor lies, and how often it was written to."""
    if tensor is None:
        return 0, 0
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """Something that was made, and of which weights, as they were then."""

    weights: tuple[ReferenceType[Tensor], ...]
    stamps: tuple[Stamp, ...]
    made: Any

    def of(self, weights: tuple[Tensor, ...]) -> bool:
        """Whether these are they, unchanged."""
        same = [held() for held in self.weights]
        return len(same) == len(weights) and all(map(_is, same, weights)) and self.stamps == tuple(map(stamp, weights))


_kept: WeakIdKeyDictionary = WeakIdKeyDictionary()  # by the first weight, then by what was made
_lock = threading.RLock()


def strips(*weights_RC: Tensor) -> Strips:
    """The strips of weights (R, C) of one width, their rows end to end. Any thread may ask."""
    return made(f"strips of {len(weights_RC)}", _strips, *weights_RC)


def made(what: str, make: Callable[..., Made], *weights: Tensor) -> Made:
    """What `make(*weights)` made, if the weights are what they were; else it is called now. `what` is its name: of one
    name one thing is kept. Any thread may ask."""
    with _lock:
        known: dict[str, Kept] | None = _kept.get(weights[0])
        if known is None:
            known = _kept[weights[0]] = {}
        found = known.get(what)
        if found is None or not found.of(weights):
            # What is made while inferring must still be of use to a training step.
            with torch.inference_mode(False), torch.no_grad():
                fresh = make(*(one.detach() for one in weights))
            found = Kept(weights=tuple(map(ref, weights)), stamps=tuple(map(stamp, weights)), made=fresh)
            known[what] = found
        return found.made


def _strips(*weights_RC: Tensor) -> Strips:
    return Strips.plain(weights_RC[0] if len(weights_RC) == 1 else torch.cat(weights_RC))


def _is(one: Tensor | None, other: Tensor) -> bool:
    return one is other
