"""Block-sparse attention: each query takes a weighted mean of the values in the blocks of keys that were chosen for it.

Child et al. 2019 (arXiv 1904.10509), section 4, with a fixed pattern; Yuan et al. 2025 (arXiv 2502.11089), equation 12,
with one that each query chooses.   y_t = softmax(scale * q_t k_C^T) v_C,   C = the tokens s <= t of the chosen blocks
A choice is a list of block numbers, -1 where it is shorter; all query heads that share a kv head share it.
N tokens, flat · T query position · S key position · H query head · G kv head · K head dim · J place in the choice
Read next: ops/attend.py, nn/attention/selection.py
"""

from __future__ import annotations

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.visible import Visible

RUN = 64
"""Queries whose keys are gathered at once: what is gathered is as large as a query's choice, for each of them."""


def attend_blocks_readable(
    q_NHK: Tensor, k_SGK: Tensor, v_SGK: Tensor, see: Visible, chosen_NGJ: Tensor, *, block: int, scale: float
) -> Tensor:
    """One query and kv head after the other, over exactly the keys that it sees. Returns (N, H, width of v), q's dtype.

    q (N, H, K), k (S, G, K), v (S, G, V): the sequences of `see` end to end, H a multiple of G. `chosen_NGJ` holds
    numbers of blocks of `block` tokens, counted from the sequence's first key, none twice, -1 for none. A query that
    sees nothing gets zeros.
    """
    if q_NHK.is_meta:  # what was chosen is not known there; shapes are
        return attend_blocks_gathered(q_NHK, k_SGK, v_SGK, see, chosen_NGJ, block=block, scale=scale)
    refuse_others(see)
    wide = torch.promote_types(q_NHK.dtype, torch.float32)
    groups, choices = k_SGK.shape[1], chosen_NGJ.tolist()
    q_NGRK = q_NHK.to(wide).unflatten(1, (groups, -1))  # R query heads share each kv head
    outputs, query, first = [], 0, 0
    for queries, keys in zip(see.queries, see.keys, strict=True):
        for place in range(keys - queries, keys) if see.causal else [keys - 1] * queries:
            for group in range(groups):
                seen = [
                    first + token
                    for number in choices[query][group]
                    if number >= 0
                    for token in range(number * block, min((number + 1) * block, place + 1))
                ]
                k_sK, v_sK = k_SGK[seen, group].to(wide), v_SGK[seen, group].to(wide)
                weights_Rs = (scale * (q_NGRK[query, group] @ k_sK.T)).softmax(-1)
                outputs.append(weights_Rs @ v_sK)
            query += 1
        first += keys
    if not outputs:
        return q_NHK.new_zeros(0, q_NHK.shape[1], v_SGK.shape[2])
    return torch.cat(outputs).unflatten(0, (query, q_NHK.shape[1])).to(q_NHK.dtype)


def attend_blocks_gathered(
    q_NHK: Tensor, k_SGK: Tensor, v_SGK: Tensor, see: Visible, chosen_NGJ: Tensor, *, block: int, scale: float
) -> Tensor:
    """The same, with the chosen keys of some dozens of queries gathered side by side. Arguments as the readable one."""
    refuse_others(see)
    device = q_NHK.device
    wide = torch.promote_types(q_NHK.dtype, torch.float32)
    place_N, first_N = last_keys(see, device)
    within_B, share = torch.arange(block, device=device), q_NHK.shape[1] // k_SGK.shape[1]
    outputs = []
    runs = zip(q_NHK.split(RUN), chosen_NGJ.split(RUN), place_N.split(RUN), first_N.split(RUN), strict=True)
    for q_THK, chosen_TGJ, place_T, first_T in runs:
        heads = []
        for group, q_TRK in enumerate(q_THK.to(wide).split(share, 1)):  # R query heads share a kv head
            token_Ts = (chosen_TGJ[:, group, :, None] * block + within_B).flatten(-2)
            unseen_Ts = (token_Ts < 0) | (token_Ts > place_T[:, None])
            row_Ts = (token_Ts + first_T[:, None]).masked_fill(unseen_Ts, 0)
            k_TsK, v_TsK = _rows(k_SGK[:, group], row_Ts).to(wide), _rows(v_SGK[:, group], row_Ts).to(wide)
            scores_TRs = scale * (q_TRK @ k_TsK.transpose(-1, -2))
            weights_TRs = scores_TRs.masked_fill(unseen_Ts[:, None], float("-inf")).softmax(-1)
            heads.append(weights_TRs.masked_fill(unseen_Ts[:, None], 0.0) @ v_TsK)
        outputs.append(torch.cat(heads, 1).to(q_NHK.dtype))
    return torch.cat(outputs)


def _rows(of_SK: Tensor, row_Ts: Tensor) -> Tensor:
    """(T, s, K). Selecting along one dimension copies row by row, forward and back."""
    return of_SK.index_select(0, row_Ts.flatten()).unflatten(0, row_Ts.shape)


def last_keys(see: Visible, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each query the last key of its sequence that it may see, and the row where its sequence's keys begin."""
    none = torch.arange(0, device=device)
    places, firsts, first = [none], [none], 0
    for queries, keys in zip(see.queries, see.keys, strict=True):
        last = torch.full((queries,), keys - 1, device=device)
        places.append(torch.arange(keys - queries, keys, device=device) if see.causal else last)
        firsts.append(torch.full((queries,), first, device=device))
        first += keys
    return torch.cat(places), torch.cat(firsts)


def refuse_others(see: Visible) -> None:
    if see.window is not None or see.prefix is not None:
        raise BadInput("blocks are chosen among all keys, without a window or a prefix", field="see")
