"""A seeded shuffle of any number of things that is computed where it is asked for, not kept as a list.

Luby & Rackoff 1988: a Feistel network is a permutation of its domain, whatever its round function.
    (left, right) -> (right, left xor F(right))
Black & Rogaway 2002: places that fall outside 0 ... count - 1 are sent round again (cycle walking).
F is SplitMix64's finaliser (Steele, Lea & Flood 2014): good for shuffling, no cipher.
Departure: a few thousand things are sorted by random numbers, which is quicker, and fairer to a handful.
Read next: data/packing.py
"""

from __future__ import annotations

import numpy as np

from cutaway.base.errors import BadInput

ROUNDS = 6
BLOCK = 4096  # places worked out at once
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def mixed(seed: int | np.uint64, places: np.ndarray) -> np.ndarray:
    """One well-stirred uint64 for each whole number in `places`: random numbers that need no state."""
    stirred = places.astype(np.uint64)
    for key in (int(seed) & _MASK, (int(seed) * _STEP + _STEP) & _MASK):
        stirred = (stirred + np.uint64(1)) * np.uint64(_STEP) ^ np.uint64(key)  # wraps modulo 2**64, as it should
        stirred = (stirred ^ (stirred >> np.uint64(30))) * np.uint64(_FIRST)
        stirred = (stirred ^ (stirred >> np.uint64(27))) * np.uint64(_SECOND)
        stirred ^= stirred >> np.uint64(31)
    return stirred


def subseed(seed: int, *places: int) -> int:
    """A seed for one part of something seeded: an epoch, a source."""
    for place in places:
        seed = int(mixed(seed, np.array([place]))[0])
    return seed


class Permutation:
    """`permutation[place]` is the thing that comes at that place; each of `count` things comes once."""

    def __init__(self, count: int, seed: int):
        if count < 1:
            raise BadInput(f"there is nothing to shuffle (count {count})", field="count")
        self.count = count
        self._half = ((count - 1).bit_length() + 1) // 2  # bits of either half
        self._seeds = [mixed(seed, np.array([turn]))[0] for turn in range(ROUNDS)]
        self._sorted = np.argsort(mixed(seed, np.arange(count)), kind="stable") if count <= BLOCK else None
        self._block, self._things = -1, [0]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> int:
        if not 0 <= place < self.count:
            raise IndexError(place)
        block, inside = divmod(place, BLOCK)
        if block != self._block:
            self._things = self.of(np.arange(block * BLOCK, min(self.count, (block + 1) * BLOCK))).tolist()
            self._block = block
        return self._things[inside]

    def of(self, places: np.ndarray) -> np.ndarray:
        """The things at many places at once, int64."""
        if self._sorted is not None:
            return self._sorted[places]
        things = self._once(places.astype(np.uint64))
        outside = np.flatnonzero(things >= self.count)
        while len(outside):
            things[outside] = self._once(things[outside])
            outside = outside[things[outside] >= self.count]
        return things.astype(np.int64)

    def _once(self, numbers: np.ndarray) -> np.ndarray:
        half, mask = np.uint64(self._half), np.uint64((1 << self._half) - 1)
        left, right = numbers >> half, numbers & mask
        for seed in self._seeds:
            left, right = right, left ^ (mixed(seed, right) & mask)
        return left << half | right
