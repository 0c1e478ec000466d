"""Cross-entropy: how surprised a model is by each target, with its gradient written out.

lse = log sum_v exp(s_v);   loss = lse - s_t;   d loss / d s_v = softmax(s)_v - [v = t]
Label smoothing (Szegedy et al. 2015, arXiv 1512.00567, section 7): a share of the target is spread over all of V,
    loss = lse - (1 - smoothing) s_t - smoothing mean_v(s_v).
z-loss (PaLM, arXiv 2204.02311, section 5) adds z lse^2: it keeps scores from drifting. Soft cap (Gemma 2, arXiv
2408.00118): s = cap tanh(a / cap).
`x_ND` are hidden states and `weight_VD` the head; without a weight `x_ND` are the scores themselves, (N, V).
All forms return the sum over targets that are not `ignore`, in float32 or wider; no mean is taken here.
N tokens, flat · n of them in a chunk · D model dim · V vocabulary.   Read next: train/objectives/causal.py
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORE = -100  # torch's own mark for "no target here"

# Scores held at once: 16 MB of float32. Of 2,048 tokens, 8,192 words, dim 256, forward and backward on one thread took
# 0.38 s of its time; a quarter or four times as many at once 0.41 to 0.43, torch's own whole form 0.50.
CHUNK = 2**22

# Up to so many scores torch's own form is taken: what starting ours costs (0.15 ms) would show.
SMALL = 2**20


def cross_entropy_readable(
    x_ND: Tensor,
    weight_VD: Tensor | None,
    targets_N: Tensor,
    *,
    bias_V: Tensor | None = None,
    softcap: float | None = None,
    smoothing: float = 0.0,
    z: float = 0.0,
    ignore: int = IGNORE,
) -> Tensor:
    """The sum of losses as the equations read. x (N, D), weight (V, D), bias (V,), targets (N,) whole numbers."""
    scores_NV = x_ND if weight_VD is None else F.linear(x_ND, weight_VD, bias_V)
    scores_NV = scores_NV.to(torch.promote_types(scores_NV.dtype, torch.float32))
    if softcap is not None:
        scores_NV = softcap * torch.tanh(scores_NV / softcap)
    counted_N = targets_N != ignore
    scores_NV, targets_N = scores_NV[counted_N], targets_N[counted_N]
    lse_N = torch.logsumexp(scores_NV, -1)
    right_N = scores_NV.gather(-1, targets_N[:, None])[:, 0]
    expected_N = (1 - smoothing) * right_N + smoothing * scores_NV.mean(-1)
    return (lse_N - expected_N + z * lse_N**2).sum()


def cross_entropy_fast(
    x_ND: Tensor,
    weight_VD: Tensor | None,
    targets_N: Tensor,
    *,
    bias_V: Tensor | None = None,
    softcap: float | None = None,
    smoothing: float = 0.0,
    z: float = 0.0,
    ignore: int = IGNORE,
) -> Tensor:
    """The same in torch's own form for few scores, by `cross_entropy_chunked` for many."""
    scores = len(x_ND) * (x_ND.shape[-1] if weight_VD is None else weight_VD.shape[0])
    if scores > SMALL or softcap is not None or z:
        return cross_entropy_chunked(
            x_ND, weight_VD, targets_N, bias_V=bias_V, softcap=softcap, smoothing=smoothing, z=z, ignore=ignore
        )
    scores_NV = x_ND if weight_VD is None else F.linear(x_ND, weight_VD, bias_V)
    scores_NV = scores_NV.to(torch.promote_types(scores_NV.dtype, torch.float32))
    return F.cross_entropy(scores_NV, targets_N, reduction="sum", label_smoothing=smoothing, ignore_index=ignore)


def cross_entropy_chunked(
    x_ND: Tensor,
    weight_VD: Tensor | None,
    targets_N: Tensor,
    *,
    bias_V: Tensor | None = None,
    softcap: float | None = None,
    smoothing: float = 0.0,
    z: float = 0.0,
    ignore: int = IGNORE,
) -> Tensor:
    """The same by hand: scores, losses and gradients of some rows, then of the next in the same memory.

    What is kept for the backward pass has the size of x and of the weight; all N x V scores are never there at once
    (where there is a weight). Under autocast the products are taken in its dtype, all else in float32.
    """
    rule = Rule(softcap=softcap, smoothing=smoothing, z=z, ignore=ignore)
    learned = any(given is not None and given.requires_grad for given in (x_ND, weight_VD, bias_V))
    if learned and torch.is_grad_enabled():
        return _Chunked.apply(x_ND, weight_VD, bias_V, targets_N, rule)
    return _pass(x_ND, weight_VD, bias_V, targets_N, rule, (False, False, False))[0]


@torch.no_grad()
def likeliest(x_ND: Tensor, weight_VD: Tensor | None, *, bias_V: Tensor | None = None) -> Tensor:
    """The word of the greatest score at each token (N,); as above, all N x V scores are never there at once."""
    if weight_VD is None:
        return x_ND.argmax(-1)
    rows = max(1, CHUNK // weight_VD.shape[0])
    found = [F.linear(x_nD, weight_VD, bias_V).argmax(-1) for x_nD in x_ND.detach().split(rows)]
    return torch.cat(found)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is summed over the tokens, with its gradient by the scores worked out by hand."""

    softcap: float | None = None
    smoothing: float = 0.0
    z: float = 0.0
    ignore: int = IGNORE

    def losses(self, scores_nV: Tensor, targets_n: Tensor, slopes: bool) -> tuple[Tensor, Tensor]:
        """The losses' sum, and its gradient by the scores as they came in (n, V) if `slopes`."""
        if self.softcap is not None:
            scores_nV = scores_nV.div(self.softcap).tanh_().mul_(self.softcap)
        ignored_n1 = self._ignored(targets_n)
        at_n1 = targets_n[:, None] if ignored_n1 is None else targets_n[:, None].masked_fill(ignored_n1, 0)
        log_nV = scores_nV.log_softmax(-1)
        right_n1 = log_nV.gather(-1, at_n1)
        losses_n1 = right_n1 * (self.smoothing - 1)
        if self.smoothing:
            losses_n1.sub_(log_nV.mean(-1, keepdim=True), alpha=self.smoothing)
        lse_n1 = scores_nV.gather(-1, at_n1).sub_(right_n1) if self.z else right_n1
        if self.z:
            losses_n1.addcmul_(lse_n1, lse_n1, value=self.z)
        if ignored_n1 is not None:
            losses_n1.masked_fill_(ignored_n1, 0.0)
        total = losses_n1.sum()
        if not slopes:
            return total, log_nV
        slopes_nV = log_nV.exp_()  # the softmax
        if self.z:
            slopes_nV.mul_(lse_n1.mul_(2 * self.z).add_(1))
        if self.smoothing:
            slopes_nV.sub_(self.smoothing / slopes_nV.shape[-1])
        slopes_nV.scatter_add_(-1, at_n1, slopes_nV.new_full((), self.smoothing - 1).expand_as(at_n1))
        if self.softcap is not None:
            slopes_nV.mul_(1 - (scores_nV / self.softcap).square_())
        if ignored_n1 is not None:
            slopes_nV.masked_fill_(ignored_n1, 0.0)
        return total, slopes_nV

    def _ignored(self, targets_n: Tensor) -> Tensor | None:
        """Where nothing is asked, (n, 1). None where that is nowhere, on the CPU: elsewhere, to know means to wait."""
        ignored_n1 = targets_n.eq(self.ignore)[:, None]
        return None if targets_n.is_cpu and not bool(ignored_n1.any()) else ignored_n1


class _Chunked(torch.autograd.Function):
    """Gradients are made on the way forward, for a total whose own gradient is 1; the way back multiplies by it."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_VD: Any, bias_V: Any, targets_N: Tensor, rule: Rule) -> Tensor:
        total, *ctx.gradients = _pass(x_ND, weight_VD, bias_V, targets_N, rule, ctx.needs_input_grad[:3])
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grown: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gradients, ctx.gradients = ctx.gradients, None  # handed on, so that nothing has to be copied
        if gradients is None:
            raise RuntimeError("the gradients of this cross-entropy were handed on by an earlier backward pass")
        if not grown.is_cpu or float(grown) != 1.0:  # elsewhere than on the CPU, asking would mean waiting
            gradients = [None if gradient is None else gradient.mul_(grown) for gradient in gradients]
        return (*gradients, None, None)


def _pass(
    x_ND: Tensor,
    weight_VD: Tensor | None,
    bias_V: Tensor | None,
    targets_N: Tensor,
    rule: Rule,
    learned: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """The total, and the gradients of those of x, weight and bias that are `learned`."""
    kind = x_ND.device.type
    cast = kind != "meta" and torch.is_autocast_enabled(kind)
    narrow = torch.get_autocast_dtype(kind) if cast else x_ND.dtype
    wide = torch.promote_types(x_ND.dtype, torch.float32)
    total = torch.zeros((), dtype=wide, device=x_ND.device)
    by_x = torch.empty_like(x_ND) if learned[0] else None
    by_weight, by_bias = (
        torch.zeros_like(given, dtype=wide) if given is not None and asked else None
        for given, asked in zip((weight_VD, bias_V), learned[1:], strict=True)
    )
    head_VD, head_bias_V = (None if given is None else given.to(narrow) for given in (weight_VD, bias_V))
    rows = max(1, CHUNK // (x_ND.shape[-1] if weight_VD is None else weight_VD.shape[0]))
    with torch.autocast(kind, enabled=False) if cast else nullcontext():
        for start in range(0, len(x_ND), rows):
            place = slice(start, start + rows)
            x_nD = x_ND[place].to(wide if head_VD is None else narrow)
            scores_nV = x_nD if head_VD is None else F.linear(x_nD, head_VD, head_bias_V).to(wide)
            added, slopes_nV = rule.losses(scores_nV, targets_N[place], any(learned))
            total += added
            if by_bias is not None:
                by_bias += slopes_nV.sum(0)
            slopes_nV = slopes_nV if head_VD is None else slopes_nV.to(narrow)
            if by_weight is not None:
                _add_product(by_weight, slopes_nV.t(), x_nD)
            if by_x is not None:
                by_x[place] = slopes_nV if head_VD is None else slopes_nV @ head_VD
    by_weight = by_weight if by_weight is None or weight_VD is None else by_weight.to(weight_VD.dtype)
    by_bias = by_bias if by_bias is None or bias_V is None else by_bias.to(bias_V.dtype)
    return total, by_x, by_weight, by_bias


def _add_product(sum_VD: Tensor, slopes_Vn: Tensor, x_nD: Tensor) -> None:
    """The chunks are summed in float32 or wider, whatever their products are taken in."""
    if sum_VD.dtype == x_nD.dtype:
        sum_VD.addmm_(slopes_Vn, x_nD)
    else:
        sum_VD.add_(slopes_Vn @ x_nD)
