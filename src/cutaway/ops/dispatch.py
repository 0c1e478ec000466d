"""Each token to the experts chosen for it, and what they make of it back: the sum of experts' outputs by weight.

Shazeer et al. 2017 (arXiv 1701.06538), equation 1.   y_n = sum_j weight_nj expert_{chosen_nj}(x_n)
The readable form goes token by token. The sorted one lays each expert's tokens side by side, so that an expert works
once, on all of them (MegaBlocks, arXiv 2211.15841: nothing is dropped, nothing padded, however uneven the shares).
N tokens, flat · J place among a token's chosen experts · D model dim · E expert.   Read next: nn/experts/mixture.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Expert = Callable[[Tensor], Tensor]  # (n, D) -> (n, D), each row on its own


def dispatch_readable(x_ND: Tensor, chosen_NJ: Tensor, weights_NJ: Tensor, experts: Sequence[Expert]) -> Tensor:
    """y (N, D): for each token the outputs of its chosen experts, by weight. `chosen_NJ` holds indices of `experts`."""
    if x_ND.is_meta:  # which experts were chosen is not known there; shapes are
        return dispatch_sorted(x_ND, chosen_NJ, weights_NJ, experts)
    rows = []
    for x_D, chosen_J, weights_J in zip(x_ND, chosen_NJ.tolist(), weights_NJ.to(x_ND.dtype), strict=True):
        y_D = torch.zeros_like(x_D)
        for index, weight in zip(chosen_J, weights_J, strict=True):
            y_D = y_D + weight * experts[index](x_D[None])[0]
        rows.append(y_D)
    return torch.stack(rows) if rows else torch.zeros_like(x_ND)


def dispatch_sorted(x_ND: Tensor, chosen_NJ: Tensor, weights_NJ: Tensor, experts: Sequence[Expert]) -> Tensor:
    """The same, with one call of each expert that was chosen at all."""
    tokens, places = chosen_NJ.shape
    order = chosen_NJ.flatten().argsort(stable=True)
    x_sorted = x_ND[order // places]
    parts = x_sorted.split(_shares(chosen_NJ, len(experts)))
    made = [expert(part) for expert, part in zip(experts, parts, strict=True) if part.shape[0]]
    if not made:
        return torch.zeros_like(x_ND)
    # Back to each token's own order, and a sum over its places there: a sum in one order, whoever else is in the batch.
    back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    y_NJD = torch.cat(made)[back].unflatten(0, (tokens, places))
    return (y_NJD * weights_NJ.to(y_NJD.dtype).unsqueeze(-1)).sum(1)


def _shares(chosen_NJ: Tensor, experts: int) -> list[int]:
    """How many rows each expert gets. Where there are no numbers, equal shares: the arithmetic is as much."""
    if chosen_NJ.is_meta:
        rows = chosen_NJ.numel()
        return [rows // experts + (index < rows % experts) for index in range(experts)]
    return torch.bincount(chosen_NJ.flatten(), minlength=experts).tolist()
