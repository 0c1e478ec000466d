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
import torch
from torch import Tensor

from cutaway.infer.decoding import Decoding
from cutaway.infer.request import Tops
from cutaway.infer.sampler import COLDEST, PROBE
from cutaway.ops.cpu.choose import RUN, Room

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
        rows, self.vocab = logits_XV.shape
        drawn = [(row, one) for row, one in enumerate(decodings) if one is not None and not one.greedy]
        wanted = max([least, *(max(PROBE, one.top_k or 0) for _, one in drawn if cuts(one))])
        heats = None
        if drawn:
            heats = torch.ones(rows)
            for row, one in drawn:
                heats[row] = 1 / max(one.temperature, COLDEST)
        told = (logits_XV, min(wanted, self.vocab), heats)
        room = before._room if before is not None and before._room.serves(*told) else Room(*told)
        room.run()
        self._room, self._logits_XV = room, logits_XV.numpy()
        self.values_XC, self.ids_XC, sums = room.values.numpy(), room.indices.numpy(), room.sums.tolist()
        self.sums: list[float] = sums
        self.sound = [isfinite(one) for one in sums]
        self._greedy = {row for row, one in enumerate(decodings) if one is not None and one.greedy}
        self._few: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # of rows that are cut: running sums of what is left
        self._runs: dict[int, tuple[np.ndarray, float]] = {}  # of those that are not: running sums of runs, and heat
        left = self._cut([(row, one) for row, one in drawn if cuts(one)], self.values_XC, self.ids_XC)
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
            return int(ids_C[min(index, len(ids_C) - 1)])
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
        rows = [row for row, _ in drawn]
        room = Room(logits_XV[rows], width)
        room.run()
        values_XC, ids_XC = (np.zeros((len(self.sums), width), dtype=kind) for kind in (np.float32, np.int32))
        values_XC[rows], ids_XC[rows] = room.values.numpy(), room.indices.numpy()
        return self._cut(drawn, values_XC, ids_XC)

    def _cut(self, drawn: Drawn, values_XC: np.ndarray, ids_XC: np.ndarray) -> Drawn:
        """What top-k, top-p and min-p leave of each row. Returns those whose list is too short to tell."""
        if not drawn:
            return drawn
        rows = np.array([row for row, _ in drawn])
        limit_X, top_p_X, min_p_X, warmth_X = (
            np.array([of(one) for _, one in drawn])[:, None]
            for of in (
                lambda one: self.vocab if one.top_k is None else min(one.top_k, self.vocab),
                lambda one: np.inf if one.top_p is None or one.top_p >= 1.0 else one.top_p,
                lambda one: one.min_p or 0.0,
                lambda one: max(one.temperature, COLDEST),
            )
        )
        values_XC = values_XC[rows].astype(np.float64)
        width = values_XC.shape[1]
        weights_XC = np.exp((values_XC - values_XC[:, :1]) / warmth_X)
        rank_C = np.arange(width)
        weights_XC[rank_C >= limit_X] = 0.0
        assert self._room.warm_sums is not None
        everyone_X = self._room.warm_sums.numpy()[rows, None]
        p_XC = weights_XC / np.where(limit_X == self.vocab, everyone_X, weights_XC.sum(1, keepdims=True))
        keep_XC = (rank_C < limit_X) & (p_XC.cumsum(1) - p_XC < top_p_X) & (p_XC >= min_p_X * p_XC[:, :1])
        counts, sums_XC = np.maximum(keep_XC.sum(1), 1).tolist(), weights_XC.cumsum(1)
        left = []
        for at, (row, one) in enumerate(drawn):
            limit, count = int(limit_X[at, 0]), counts[at]
            if limit <= width or (limit == self.vocab and count < width):
                self._few[row] = sums_XC[at, :count], ids_XC[row, :count]
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
