"""What a sampler must draw from: the distribution that a `Decoding` leaves, in plain Python.

Order: repetition penalty (CTRL, arXiv 1909.05858), temperature, top-k, top-p (arXiv 1904.09751), min-p (2407.01082).
Read next: infer/sampler.py, infer/decoding.py
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from cutaway.infer.decoding import Decoding


def distribution(logits: Sequence[float], decoding: Decoding, seen: Iterable[int] = ()) -> list[float]:
    """The probability of each token. A temperature of 0 gives it all to the likeliest."""
    scores = list(map(float, logits))
    for token in set(seen):
        penalty = decoding.repetition_penalty
        scores[token] = scores[token] / penalty if scores[token] > 0 else scores[token] * penalty
    best = max(scores)
    if decoding.greedy:
        likeliest = scores.index(best)
        return [float(token == likeliest) for token in range(len(scores))]
    masses = [math.exp((score - best) / decoding.temperature) for score in scores]
    order = sorted(range(len(scores)), key=lambda token: -masses[token])
    kept = order[: decoding.top_k] if decoding.top_k else order
    total, before, nucleus = sum(masses[token] for token in kept), 0.0, []
    for token in kept:
        if decoding.top_p is not None and before >= decoding.top_p:
            break
        nucleus.append(token)
        before += masses[token] / total
    left = [token for token in nucleus if masses[token] >= (decoding.min_p or 0.0) * masses[order[0]]]
    total = sum(masses[token] for token in left)
    return [masses[token] / total if token in left else 0.0 for token in range(len(scores))]
