"""What is asked of many rows of logits at once, by torch: the likeliest, logprobs, and whether they are numbers at all.

Its sibling infer/shortlist.py has the same from a kernel, and draws besides.
X row of logits · V vocabulary.   Read next: infer/engine.py, infer/shortlist.py
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from cutaway.infer.decoding import Decoding
from cutaway.infer.request import Tops


class Longlist:
    """`decodings`: how a token of each row is chosen where nothing else has a say in it; else None."""

    def __init__(self, logits_XV: Tensor, decodings: Sequence[Decoding | None]):
        self._wide_XV = logits_XV.float()
        self._total_X = self._wide_XV.logsumexp(-1)
        self._best_X = logits_XV.argmax(-1).tolist()
        # NaN or infinity among the logits shows in their sum.
        self.sound: list[bool] = self._total_X.isfinite().tolist()
        self._greedy = [one is not None and one.greedy for one in decodings]

    def token(self, row: int, draw: random.Random) -> int | None:
        """The next token behind a row, where it is the likeliest; None where the sampler is to choose it."""
        return self._best_X[row] if self._greedy[row] else None

    def logprobs(self, pairs: Sequence[tuple[int, int]]) -> list[float]:
        """Of tokens behind rows, in nats, before rules and temperature."""
        tokens = torch.tensor(pairs, dtype=torch.long, device=self._wide_XV.device).view(-1, 2)
        return (self._wide_XV[tokens[:, 0], tokens[:, 1]] - self._total_X[tokens[:, 0]]).tolist()

    def tops(self, row: int, count: int) -> Tops:
        """So many of the likeliest, with their logprobs."""
        if not count:
            return ()
        best_C, ids_C = self._wide_XV[row].topk(min(count, self._wide_XV.shape[1]))
        return tuple(zip(ids_C.tolist(), (best_C - self._total_X[row]).tolist(), strict=True))
