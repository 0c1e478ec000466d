"""Where an answer may part from the one that its prompt gets alone: at a near tie, and how near that is.

Without `deterministic` a token's logits depend a little on what else is in the pass: on the order of sums, and, where
torch multiplies weights of 4 bits, on which kernel's bfloat16 the activations were rounded to, if to any: a few steps,
many, a short prompt and a long one are multiplied in four ways (ops/multiply/narrow.py). Let d_v be by how much the
logit of token v then differs. A greedy answer takes b for a only where
    z_a - z_b <= d_b - d_a <= max d - min d
so that this spread, at most twice the largest difference, bounds by how much a led b wherever texts part.
V vocabulary.   Read next: infer/engine.py, bench/engine.py (--ties measures it), bench/soak.py (holds a server to it)
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

NEAR = 0.8
"""Nats (or logits: a gap is the same in both). SmolLM2-135M at 4 bits on torch, 24 answers together and each alone, in
passes of all sizes: the spread was 0.1 in the median, 0.36 at most behind 1,920 tokens of wikitext, and 0.78 behind 960
that follow random ids, where rounding costs most; another token came 14 times, led by 0.11 at most. Multiplied in
float32 all of it spread by 0.0001 at most: it is bfloat16, and nothing else."""

LIKELIEST = 50
"""Tokens that a spread is looked for among: all others lie further behind than any spread reaches."""


def parted(alone: Sequence[int], other: Sequence[int]) -> int | None:
    """The first place at which two answers differ; None where one begins as the other."""
    return next((place for place, (a, b) in enumerate(zip(alone, other, strict=False)) if a != b), None)


def lead(logits_V: Tensor, token: int) -> float:
    """By how much the best logit leads that of `token`."""
    wide_V = logits_V.float()
    return float(wide_V.max() - wide_V[token])


def spread(alone_V: Tensor, other_V: Tensor) -> float:
    """By how much any gap between two of the likeliest differs."""
    likeliest = alone_V.topk(min(LIKELIEST, alone_V.shape[0])).indices
    least, most = (other_V[likeliest].float() - alone_V[likeliest].float()).aminmax()
    return float(most - least)
