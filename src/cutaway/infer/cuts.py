"""Cuts that look at the shape of the whole distribution: typical sampling, epsilon and eta cut-offs.

With p the probabilities that are left and H = -sum p log p their entropy (nats), kept are
  typical   those whose surprise -log p is nearest to H, until they reach the mass   (arXiv 2202.00666, section 4)
  epsilon   p >= epsilon                                                             (arXiv 2210.15191, section 4.3)
  eta       p >= min(eta, sqrt(eta) exp(-H))                                         (arXiv 2210.15191, algorithm 1)
and for the last two always the likeliest; the first may cut it away. Each takes probabilities (C,) in any order and
says which stay, (C,) bool.
C candidates left.   Read next: infer/sampler.py
"""

from __future__ import annotations

import torch
from torch import Tensor


def typical(probabilities_C: Tensor, mass: float) -> Tensor:
    """The most typical candidates that together reach `mass`; the one that reaches it stays."""
    distance_C = (_surprise(probabilities_C) - entropy(probabilities_C)).abs()
    order = distance_C.argsort(stable=True)
    reached = probabilities_C[order].cumsum(0)
    farthest = distance_C[order][min(int((reached < mass).sum()), len(order) - 1)]
    return distance_C <= farthest


def above(probabilities_C: Tensor, epsilon: float) -> Tensor:
    """Those at least as likely as `epsilon`, and the likeliest."""
    return (probabilities_C >= epsilon) | (probabilities_C == probabilities_C.max())


def above_entropy(probabilities_C: Tensor, eta: float) -> Tensor:
    """As `above`, with a bound that falls where the distribution is flat."""
    bound = torch.minimum(probabilities_C.new_tensor(eta), eta**0.5 * (-entropy(probabilities_C)).exp())
    return above(probabilities_C, float(bound))


def entropy(probabilities_C: Tensor) -> Tensor:
    """In nats; what is impossible adds nothing."""
    return torch.special.entr(probabilities_C).sum()


def _surprise(probabilities_C: Tensor) -> Tensor:
    """-log p, infinite where p is 0."""
    return -probabilities_C.log()
