"""The likeliest tokens of many rows of logits, found at once by a kernel, and draws from them.

What infer/sampler.py makes of one row after the other: its cuts and its draw, by the same random numbers, for the same
tokens but for the rounding of sums. A row whose decoding asks for more than the list holds (a rule, a penalty, a cut
that leaves more tokens than are listed) is left to the sampler.
  top-k, top-p, min-p   of the k likeliest, with the sum of e^((x - m) / temperature) over all tokens from the kernel
  none of them          first the run of 64 tokens that the random number falls in is found, then the token within
X row of logits · V vocabulary · C candidate · R run of 64 tokens.   Read next: ops/cpu/choose.py, infer/sampler.py
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import isfinite

import numpy as np
from torch import Tensor

from cutaway.infer.decoding import Decoding
from cutaway.infer.request import Tops
from cutaway.infer.sampler import COLDEST, PROBE
from cutaway.ops.cpu.choose import RUN, Draws, Room

MOST = 1024
"""A top-k above this is left to the sampler."""

LONGER = (512,)
"""Tokens that are listed where PROBE are too few. (To list 4,096 takes as long as the sampler does.)"""

Drawn = Sequence[tuple[int, Decoding]]  # rows, and how each one's token is drawn


class Shortlist:
    """`logits_XV`: float32 in memory. `decodings`: how a token of each row is drawn; None: it is not drawn from the
    list, or is the likeliest. `least`: so many of the likeliest are wanted in any case. `before`: an earlier list that
    is done with, whose room is taken if it does."""

    def __init__(
        self,
        logits_XV: Tensor,
        decodings: Sequence[Decoding | None],
        least: int = 1,
        before: Shortlist | None = None,
    ):
        self.vocab = logits_XV.shape[1]
        drawn = [(row, one) for row, one in enumerate(decodings) if one is not None and not one.greedy]
        wanted = max([least, *(max(PROBE, one.top_k or 0) for _, one in drawn if cuts(one))])
        self._decodings, self._draws = list(decodings), None
        if drawn:
            alike = before is not None and before.vocab == self.vocab and _are(before._decodings, self._decodings)
            self._draws = before._draws if alike and before is not None else _draws(decodings, self.vocab)
        told = (logits_XV, min(wanted, self.vocab), self._draws)
        room = before._room if before is not None and before._room.serves(*told) else Room(*told)
        room.run()
        self._room, self._logits_XV = room, logits_XV.numpy()
        self.values_XC, self.ids_XC, sums = room.values.numpy(), room.indices.numpy(), room.sums.tolist()
        self.sums: list[float] = sums
        self.sound = [isfinite(one) for one in sums]
        self._greedy = {row for row, one in enumerate(decodings) if one is not None and one.greedy}
        self._few: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # of rows that are cut: running sums of what is left
        self._runs: dict[int, tuple[np.ndarray, float]] = {}  # of those that are not: running sums of runs, and heat
        left = self._cut(room, [(row, row, one) for row, one in drawn if cuts(one)])
        for width in LONGER:
            if left and width < self.vocab:
                left = self._longer(logits_XV, left, width)
        self._sum([(row, one) for row, one in drawn if not cuts(one)])

    def likeliest(self, row: int) -> int:
        """The first of the likeliest tokens."""
        return int(self.ids_XC[row, 0])

    def logprobs(self, pairs: Sequence[tuple[int, int]]) -> list[float]:
        """Of tokens behind rows, in nats, before rules and temperature."""
        return [float(self._logits_XV[row, token]) - self.sums[row] for row, token in pairs]

    def tops(self, row: int, count: int) -> Tops:
        """So many of the likeliest, with their logprobs; `least` at most."""
        ids, values = self.ids_XC[row, :count].tolist(), self.values_XC[row, :count].tolist()
        return tuple((token, value - self.sums[row]) for token, value in zip(ids, values, strict=True))

    def token(self, row: int, draw: random.Random) -> int | None:
        """The next token behind a row; None, and no number drawn, where the list does not hold all that is needed."""
        if not self.sound[row]:
            return None
        if row in self._greedy:
            return self.likeliest(row)
        if row in self._few:
            sums_C, ids_C = self._few[row]
            index = int(sums_C.searchsorted(draw.random() * sums_C[-1], side="right"))
            return int(ids_C[min(index, len(sums_C) - 1)])
        return self._anyone(row, draw) if row in self._runs else None

    def _anyone(self, row: int, draw: random.Random) -> int:
        """A token of the whole vocabulary."""
        sums_R, heat = self._runs[row]
        point = draw.random() * sums_R[-1]
        run = min(int(sums_R.searchsorted(point, side="right")), len(sums_R) - 1)
        x_C = self._logits_XV[row, run * RUN : (run + 1) * RUN].astype(np.float64)
        sums_C = np.exp((x_C - float(self.values_XC[row, 0])) * heat).cumsum()
        index = int(sums_C.searchsorted(point - (sums_R[run - 1] if run else 0.0), side="right"))
        return run * RUN + min(index, len(x_C) - 1)

    def _longer(self, logits_XV: Tensor, drawn: Drawn, width: int) -> Drawn:
        """The same for rows that more tokens are needed of."""
        room = Room(logits_XV[[row for row, _ in drawn]], width, _draws([one for _, one in drawn], self.vocab))
        room.run()
        return self._cut(room, [(at, row, one) for at, (row, one) in enumerate(drawn)])

    def _cut(self, room: Room, drawn: Sequence[tuple[int, int, Decoding]]) -> Drawn:
        """What top-k, top-p and min-p leave of each row, the first number of each being its place in `room`. Returns
        those whose list is too short to tell."""
        if not drawn:
            return []
        assert room.kept is not None and room.running is not None
        left, counts, running_XC, ids_XC = [], room.kept.tolist(), room.running.numpy(), room.indices.numpy()
        for at, row, one in drawn:
            if counts[at]:
                self._few[row] = running_XC[at, : counts[at]], ids_XC[at]
            else:
                left.append((row, one))
        return left

    def _sum(self, drawn: Sequence[tuple[int, Decoding]]) -> None:
        """Running sums over the runs of rows of which nothing is cut."""
        if not drawn:
            return
        assert self._room.warm is not None
        highest_XR, warm_XR = self._room.highest.numpy(), self._room.warm.numpy()
        for row, one in drawn:
            heat = 1 / max(one.temperature, COLDEST)
            above_R = highest_XR[row].astype(np.float64) - float(self.values_XC[row, 0])
            self._runs[row] = (warm_XR[row] * np.exp(above_R * heat)).cumsum(), heat


def cuts(decoding: Decoding) -> bool:
    """Whether any of the cuts stands that are made here."""
    return (decoding.top_k, decoding.top_p or 1.0, decoding.min_p or 0.0) != (None, 1.0, 0.0)


def serves(decoding: Decoding) -> bool:
    """Whether nothing else is asked for than what is done here."""
    others = (decoding.typical_p, decoding.epsilon, decoding.eta)
    plain = not decoding.ruled and decoding.repetition_penalty == 1.0 and others == (None, None, None)
    return plain and (decoding.top_k or 0) <= MOST


def _draws(decodings: Sequence[Decoding | None], vocab: int) -> Draws:
    """How tokens are drawn, as the kernel is told. Rows that are not drawn from, or not cut, have no limit."""
    told = [(one, cuts(one)) if one is not None and not one.greedy else (Decoding(), False) for one in decodings]
    heats = [1.0 if one.greedy else 1 / max(one.temperature, COLDEST) for one, _ in told]
    limits = [min(vocab if one.top_k is None else one.top_k, vocab) if cut else 0 for one, cut in told]
    return Draws(heats, limits, [one.top_p or 1.0 for one, _ in told], [one.min_p or 0.0 for one, _ in told])


def _are(some: Sequence[Decoding | None], others: Sequence[Decoding | None]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))
