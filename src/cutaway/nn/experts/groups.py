"""Grouped routing: a token's experts come from few groups of them, so that it travels to few devices.

DeepSeek-V2 (arXiv 2405.04434), section 2.2.2: a group is worth its best expert.
DeepSeek-V3 (arXiv 2412.19437), section 2.1.2 and its code: a group is worth its two best together.
N tokens, flat · E expert.   Read next: nn/experts/routers.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cutaway.base.bounds import at_least
from cutaway.base.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Experts in `count` groups of neighbours, of which each token may use the `top_k` best. `worth`: of a group, its
    best expert's score ("best", V2) or the sum of its two best ("best two", V3)."""

    count: int
    top_k: int
    worth: Literal["best", "best two"] = "best"

    def __post_init__(self) -> None:
        at_least(self, 1, "count", "top_k")
        if self.top_k > self.count:
            raise BadInput(f"{self.top_k} of {self.count} groups cannot be chosen", field="Groups.top_k")
        if self.worth not in ("best", "best two"):
            raise BadInput(f'must be "best" or "best two", is {self.worth!r}', field="Groups.worth")

    def check(self, experts: int, top_k: int) -> None:
        """Raises BadInput where so many experts cannot be grouped so, or the chosen groups hold fewer than `top_k`."""
        if experts % self.count:
            raise BadInput(f"{experts} experts do not divide into {self.count} groups", field="Groups.count")
        size = experts // self.count
        if self.worth == "best two" and size < 2:
            raise BadInput(f"groups of {size} have no two best experts", field="Groups.worth")
        if top_k > self.top_k * size:
            said = f"{self.top_k} groups of {size} experts hold fewer than the {top_k} to choose"
            raise BadInput(said, field="Groups.top_k")

    def allowed(self, scores_NE: Tensor) -> Tensor:
        """Which experts stand in each token's chosen groups: True and False (N, E)."""
        scores_NGe = scores_NE.unflatten(-1, (self.count, -1))
        best = scores_NGe.topk(1 if self.worth == "best" else 2, dim=-1).values.sum(-1)
        chosen = torch.zeros_like(best, dtype=torch.bool).scatter_(-1, best.topk(self.top_k, dim=-1).indices, True)
        return chosen.unsqueeze(-1).expand_as(scores_NGe).flatten(-2)
