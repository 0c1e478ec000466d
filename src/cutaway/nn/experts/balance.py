"""Balance: how evenly a router spreads tokens over its experts, and what keeps it even.

Left to itself a router sends more to experts that have learned more, which learn more (arXiv 1701.06538, section 4).
  load-balance loss   Switch (arXiv 2101.03961), equations 4 to 6; GShard (arXiv 2006.16668):   E sum_e f_e P_e
                      f_e: the share of all choices that fell on e;   P_e: the mean of its probability;   even: 1
  z-loss              ST-MoE (arXiv 2202.08906), equation 5:   mean_n (log sum_e exp logit_ne)^2
  loss-free           Wang et al. 2024 (arXiv 2408.15664), algorithm 1:   b_e += u sign(mean load - load_e)
  MaxVio              the same, equation 4:   max load / mean load - 1;   even: 0
Departure: with k choices a token, f adds up to 1 (GShard's code and transformers let it add up to k).
N tokens, flat · J place among a token's chosen experts · E expert.   Read next: train/loss_free.py
"""

from __future__ import annotations

import torch
from torch import Tensor

from cutaway.nn.experts.routing import Routing


def load(chosen_NJ: Tensor, experts: int) -> Tensor:
    """How many tokens chose each expert (E,), whole numbers as float32."""
    # Not bincount: on a GPU it waits, and on the meta device there is none.
    ones = torch.ones(chosen_NJ.numel(), dtype=torch.float32, device=chosen_NJ.device)
    return ones.new_zeros(experts).scatter_add_(0, chosen_NJ.flatten(), ones)


def balance_loss(routing: Routing) -> Tensor:
    """The load-balance loss, a scalar: 1 where all experts are as likely. Its gradient goes through P alone."""
    experts = routing.likely_NE.shape[-1]
    shares_E = load(routing.chosen_NJ, experts).to(routing.likely_NE.dtype) / max(routing.chosen_NJ.numel(), 1)
    return experts * (shares_E * _mean(routing.likely_NE)).sum()


def z_loss(routing: Routing) -> Tensor:
    """The mean squared log-sum-exp of the router's logits, a scalar: keeps them small."""
    return _mean(routing.logits_NE.logsumexp(-1).square())


def max_violation(load_E: Tensor) -> Tensor:
    """By how much the busiest expert exceeds the mean, as a share of it: 0 where all are even, E - 1 at the most."""
    return load_E.max() / load_E.mean().clamp(min=torch.finfo(load_E.dtype).tiny) - 1


def nudged(bias_E: Tensor, load_E: Tensor, rate: float) -> Tensor:
    """The bias for the next step: up by `rate` for experts below the mean load, down for those above."""
    return bias_E + rate * (load_E.mean() - load_E).sign().to(bias_E.dtype)


def entropy(likely_NE: Tensor) -> Tensor:
    """Of each token's shares, in nats (N,): 0 where one expert has all, ln E where all are as likely."""
    return torch.special.entr(likely_NE).sum(-1)


def _mean(numbers: Tensor) -> Tensor:
    """Over tokens; 0 of none."""
    return numbers.sum(0) / max(numbers.shape[0], 1)
