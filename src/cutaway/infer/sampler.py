"""From logits to the next token: a pure function of the logits and one `Decoding` value.

The order is the field's: repetition penalty, temperature, top-k, top-p, min-p, typical, epsilon, eta, draw. The draw is
the inverse of the cumulative distribution at one uniform number, so that a seed gives the same tokens on every device.
V vocabulary · C candidates left.   Read next: infer/decoding.py
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import torch
from torch import Tensor

from cutaway.infer.cuts import above, above_entropy, typical
from cutaway.infer.decoding import Decoding

PROBE = 64  # candidates looked at before the whole vocabulary is: nearly all the mass is usually there
COLDEST = 1e-30  # a temperature below the smallest float32 would be a division by 0


def choose(logits_V: Tensor, decoding: Decoding, draw: random.Random, seen: Iterable[int] = ()) -> int:
    """The id of the next token. `seen`: the ids that the repetition penalty falls on."""
    if decoding.repetition_penalty != 1.0:
        logits_V = penalise(logits_V, seen, decoding.repetition_penalty)
    if decoding.greedy:
        return int(logits_V.argmax())
    probabilities_C, ids_C = trimmed(*candidates(logits_V, decoding), decoding)
    cumulative_C = probabilities_C.cumsum(0)
    point = draw.random() * cumulative_C[-1]
    index = int(torch.searchsorted(cumulative_C, point.reshape(1), right=True))
    return int(ids_C[min(index, ids_C.shape[0] - 1)])


def penalise(logits_V: Tensor, seen: Iterable[int], penalty: float) -> Tensor:
    """Makes the seen tokens less likely: positive logits are divided by the penalty, negative ones multiplied."""
    ids = torch.tensor(sorted(set(seen)), dtype=torch.long, device=logits_V.device)
    old = logits_V[ids]
    return logits_V.index_copy(0, ids, torch.where(old > 0, old / penalty, old * penalty))


def candidates(logits_V: Tensor, decoding: Decoding) -> tuple[Tensor, Tensor]:
    """The tokens left to draw from: probabilities (C,), which sum to 1, and ids (C,). Likeliest first if any are cut.

    Only the few likeliest tokens are sorted where they hold all that top-k, top-p and min-p leave.
    """
    # Measured from the best, so that a temperature near 0 ends in greedy and not in infinity.
    scaled_V = (logits_V.float() - logits_V.max().float()) / max(decoding.temperature, COLDEST)
    if (decoding.top_k, decoding.top_p or 1.0, decoding.min_p or 0.0) == (None, 1.0, 0.0):
        return scaled_V.softmax(0), torch.arange(scaled_V.shape[0], device=scaled_V.device)  # all are left, unsorted
    limit = scaled_V.shape[0] if decoding.top_k is None else min(decoding.top_k, scaled_V.shape[0])
    normaliser = scaled_V.logsumexp(0)
    width = min(PROBE, limit)
    while True:
        best_C, ids_C = scaled_V.topk(width)
        whole = normaliser if limit == scaled_V.shape[0] else (best_C.logsumexp(0) if width == limit else None)
        if whole is not None:
            probabilities_C = (best_C - whole).exp()
            keep = kept(probabilities_C, decoding)
            if keep < width or width == limit:
                probabilities_C = probabilities_C[:keep]
                return probabilities_C / probabilities_C.sum(), ids_C[:keep]
        width = min(limit, width * 16)


def trimmed(probabilities_C: Tensor, ids_C: Tensor, decoding: Decoding) -> tuple[Tensor, Tensor]:
    """What typical sampling, epsilon and eta leave of the candidates, each of what the one before has left."""
    for cut, bound in ((typical, decoding.typical_p), (above, decoding.epsilon), (above_entropy, decoding.eta)):
        if bound is not None:
            keep_C = cut(probabilities_C, bound)
            probabilities_C, ids_C = probabilities_C[keep_C], ids_C[keep_C]
            probabilities_C = probabilities_C / probabilities_C.sum()
    return probabilities_C, ids_C


def kept(probabilities_C: Tensor, decoding: Decoding) -> int:
    """How many of the likeliest tokens top-p and min-p leave (at least one). `probabilities_C` falls."""
    count = probabilities_C.shape[0]
    if decoding.top_p is not None and decoding.top_p < 1.0:
        before_C = probabilities_C.cumsum(0) - probabilities_C
        count = int((before_C < decoding.top_p).sum())
        # min-p looks at the renormalised nucleus, where every ratio to the likeliest is the same.
    if decoding.min_p is not None and decoding.min_p > 0.0:
        count = min(count, int((probabilities_C >= decoding.min_p * probabilities_C[0]).sum()))
    return max(count, 1)
