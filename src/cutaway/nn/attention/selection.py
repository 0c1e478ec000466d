"""Selection: from the weights that a query gives to compressed blocks, the few blocks of tokens that it reads in full.

NSA (arXiv 2502.11089), equations 9 to 11. All counted from 0, compressed block i covers the l tokens from i d on,
selectable block j the l' tokens from j l' on. They meet where i = (l'/d) j + m - n for some 0 <= m < l'/d and
0 <= n < l/d, in as many ways as they share strides of d tokens, so that with p the weights over compressed blocks
  importance_j = sum over heads of a group, m and n of p[(l'/d) j + m - n]
Chosen are the first block, the query's own and the one before, then the most important, `top_k` in all.
Departure: the paper prints other signs, right where blocks are counted otherwise: `cutaway reproduce nsa-equation-9`.
T query position · H query head · G kv head · C compressed block · J selectable block, or place in the choice
Read next: nn/attention/native_sparse.py, ops/block_sparse.py
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def importance(weights_HTC: Tensor, groups: int, blocks: int, *, block: int, stride: int, select: int) -> Tensor:
    """How much of each selectable block the heads of a group look at, (G, T, J) for J = `blocks`.

    `weights_HTC`: each query's weights over the whole compressed blocks, 0 where it cannot see one.
    """
    shared, parts = block // stride, select // stride
    weights_GTC = weights_HTC.unflatten(0, (groups, -1)).sum(1)
    # Room for n to reach back before the first block, and for m to reach past the last.
    room = blocks * parts + shared - 1
    padded_GTC = F.pad(weights_GTC, (shared - 1, max(0, room - (shared - 1) - weights_GTC.shape[-1])))[..., :room]
    strides_GTC = padded_GTC.unfold(-1, shared, 1).sum(-1)  # over n: what looks at each stride of tokens
    return strides_GTC.unflatten(-1, (blocks, parts)).sum(-1)  # over m: the strides of each selectable block


def choose(importance_GTJ: Tensor, place_T: Tensor, *, select: int, top_k: int) -> Tensor:
    """The numbers of `top_k` blocks for each query at `place_T`, (T, G, top_k), most important first; -1 where there
    are fewer up to its own. Between equals the earlier one. Takes no gradient: a number has none."""
    blocks = importance_GTJ.shape[-1]
    number_J, own_T1 = torch.arange(blocks, device=place_T.device), (place_T // select)[:, None]
    always_TJ = (number_J == 0) | ((own_T1 - number_J >= 0) & (own_T1 - number_J <= 1))
    score_GTJ = importance_GTJ.detach().masked_fill(always_TJ, float("inf"))
    score_GTJ = score_GTJ.masked_fill(number_J > own_T1, float("-inf"))
    best = score_GTJ.sort(stable=True, dim=-1, descending=True)
    chosen_GTJ = best.indices.masked_fill(best.values == float("-inf"), -1)[..., :top_k]
    return F.pad(chosen_GTJ, (0, max(0, top_k - blocks)), value=-1).transpose(0, 1)
