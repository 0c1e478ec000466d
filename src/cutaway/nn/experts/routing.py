"""What a router has decided: which experts each token goes to, with what weight, and the numbers it was decided by.

N tokens, flat · J place among a token's chosen experts · E expert.   Read next: nn/experts/routers.py
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Routing:
    """`chosen_NJ`: indices of experts, the best first; `weights_NJ`: what their outputs are multiplied by.
    `logits_NE`: the router's raw scores; `likely_NE`: each token's scores as shares that add up to 1."""

    chosen_NJ: Tensor
    weights_NJ: Tensor
    logits_NE: Tensor
    likely_NE: Tensor
