"""Batch norm: each feature brought to unit scale by its own mean and variance over the batch.

Ioffe and Szegedy 2015 (arXiv 1502.03167), algorithms 1 and 2.
training:    y = (x - mean_N) / sqrt(var_N + eps) * weight + bias;   running <- (1 - momentum) running + momentum batch
evaluation:  y = (x - running mean) / sqrt(running variance + eps) * weight + bias
The batch is normed by its biased variance (divided by N), the running one collects the unbiased (N - 1), as in torch.
What a token becomes depends on the others in its batch and on past ones: hence language models norm each token alone.
Departure: this part alone keeps something on the module between passes; running it twice (recomputation) counts twice.
N rows of the batch · D features.   Read next: nn/norms.py
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.nn.context import Context
from cutaway.nn.cost import Cost
from cutaway.nn.norms import check_eps


@dataclass(frozen=True, kw_only=True)
class BatchNorm:
    """`momentum`: the share of the newest batch in the running statistics."""

    eps: float = 1e-5
    momentum: float = 0.1

    def __post_init__(self) -> None:
        check_eps(self.eps, "BatchNorm")
        if not 0.0 < self.momentum <= 1.0:
            raise BadInput(f"must be in (0, 1], is {self.momentum}", field="BatchNorm.momentum")

    def build(self, dim: int) -> BatchNormModule:
        return BatchNormModule(dim, self)

    def cost(self, dim: int, tokens: int, length: int) -> Cost:
        return Cost(parameters=2 * dim)


class BatchNormModule(nn.Module):
    """x (N, D) -> (N, D). Running statistics start at mean 0 and variance 1, and are saved with the weights."""

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, dim: int, spec: BatchNorm):
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_variance", torch.ones(dim))

    def forward(self, x_ND: Tensor, context: Context | None = None) -> Tensor:
        wide = x_ND.to(torch.promote_types(x_ND.dtype, torch.float32))
        mean_D, variance_D = self._batch(wide) if self.training else (self.running_mean, self.running_variance)
        y_ND = (wide - mean_D) / torch.sqrt(variance_D + self.spec.eps) * self.weight + self.bias
        return y_ND.to(x_ND.dtype)

    def _batch(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """The batch's own mean and biased variance; the running ones take their share of it."""
        rows = x_ND.shape[0]
        if rows < 2:
            raise BadInput(f"in training the batch needs at least 2 rows, it has {rows}", field="BatchNorm")
        mean_D = x_ND.mean(0)
        variance_D = (x_ND - mean_D).pow(2).mean(0)
        with torch.no_grad():
            self.running_mean.lerp_(mean_D.to(self.running_mean.dtype), self.spec.momentum)
            unbiased_D = variance_D * (rows / (rows - 1))
            self.running_variance.lerp_(unbiased_D.to(self.running_variance.dtype), self.spec.momentum)
        return mean_D, variance_D
