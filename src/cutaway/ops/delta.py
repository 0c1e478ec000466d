"""The gated delta rule: a state that fades a little with each token, and learns of it only what it did not know yet.

Yang et al. 2024 (arXiv 2412.06464), equation 10; a fades and b writes, numbers of 0 to 1 for each token and head:
    S_t = a_t S_{t-1} + k_t u_t^T,   u_t = b_t (v_t - (a_t S_{t-1})^T k_t),   y_t = S_t^T q_t
S (K, V) answers a key with a value; u is what it should have answered, less what it did. Nothing else is kept of a
text, however long. Several value heads may share a query and key head, as queries do in grouped attention.
Chunked (section 3.3, after arXiv 2406.06484): of C tokens with c_t = log a_1 + .. + log a_t, the u solve one triangular
system, and all else is products:
    u_t + b_t sum_{s<t} e^(c_t - c_s) (k_t . k_s) u_s = b_t (v_t - e^(c_t) S_0^T k_t)
    y_t = e^(c_t) S_0^T q_t + sum_{s<=t} e^(c_t - c_s) (q_t . k_s) u_s
    S_C = e^(c_C) S_0 + sum_s e^(c_C - c_s) k_s u_s^T
Departure: the paper makes two matrices of each chunk before it knows S_0, so that chunks run side by side; here they
run in turn, and the system is solved once, for its one right side.
N tokens of B sequences, flat · T position · C place in a chunk · H value head · G key head · R value heads of one key
head · K key dim · V value dim.   Read next: nn/attention/gated_delta.py
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import torch
from torch import Tensor

CHUNK = 64
"""Tokens of a chunk: the products within one grow with it, the steps over states become fewer."""


def delta_readable(
    q_NGK: Tensor,
    k_NGK: Tensor,
    v_NHV: Tensor,
    fade_NH: Tensor,
    write_NH: Tensor,
    state_BHKV: Tensor,
    lengths: tuple[int, ...],
) -> tuple[Tensor, Tensor]:
    """y (N, H, V) in v's dtype and the state behind each sequence's last token, (B, H, K, V), token by token.

    `fade_NH`: log a, at most 0; `write_NH`: b; `state_BHKV`: before the first token. H is a multiple of G. All is
    worked out in float32, or wider where something is.
    """
    share, rows, states = v_NHV.shape[1] // k_NGK.shape[1], [v_NHV[:0]], [state_BHKV[:0]]
    wide = torch.promote_types(torch.promote_types(v_NHV.dtype, state_BHKV.dtype), torch.float32)
    q_NHK, k_NHK = (one.to(wide).repeat_interleave(share, 1) for one in (q_NGK, k_NGK))
    v_NHV1, a_NH11, b_NH11 = v_NHV.to(wide)[..., None], fade_NH.to(wide).exp(), write_NH.to(wide)
    a_NH11, b_NH11 = a_NH11[..., None, None], b_NH11[..., None, None]
    token = 0
    for state_HKV, length in zip(state_BHKV.to(wide), lengths, strict=True):
        for _ in range(length):
            k_HK1, q_HK1 = k_NHK[token, ..., None], q_NHK[token, ..., None]
            state_HKV = a_NH11[token] * state_HKV
            u_HV1 = b_NH11[token] * (v_NHV1[token] - state_HKV.mT @ k_HK1)
            state_HKV = state_HKV + k_HK1 @ u_HV1.mT
            rows.append((state_HKV.mT @ q_HK1)[None, ..., 0].to(v_NHV.dtype))
            token += 1
        states.append(state_HKV[None].to(state_BHKV.dtype))
    return torch.cat(rows), torch.cat(states)


def delta_chunked(
    q_NGK: Tensor,
    k_NGK: Tensor,
    v_NHV: Tensor,
    fade_NH: Tensor,
    write_NH: Tensor,
    state_BHKV: Tensor,
    lengths: tuple[int, ...],
) -> tuple[Tensor, Tensor]:
    """The same, chunk by chunk. Arguments as `delta_readable`. Neighbours of equal lengths run as one rectangle."""
    kind = v_NHV.device.type
    if kind != "meta" and torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):  # sums over a whole text are no place for half precision
            return delta_chunked(q_NGK, k_NGK, v_NHV, fade_NH, write_NH, state_BHKV, lengths)
    wide = torch.promote_types(torch.promote_types(v_NHV.dtype, state_BHKV.dtype), torch.float32)
    rows, states = [v_NHV[:0]], [state_BHKV[:0]]
    for sequences, tokens in rectangles(lengths):
        state_bHKV, batch = state_BHKV[sequences], sequences.stop - sequences.start
        if tokens.start == tokens.stop:
            states.append(state_bHKV)
            continue
        q, k, v, fade, write = (
            one[tokens].to(wide).unflatten(0, (batch, -1)).transpose(1, 2)
            for one in (q_NGK, k_NGK, v_NHV, fade_NH, write_NH)
        )
        y_bHTV, state_bHKV = _rectangle(q, k, v, fade, write, state_bHKV.to(wide))
        rows.append(y_bHTV.transpose(1, 2).flatten(0, 1).to(v_NHV.dtype))
        states.append(state_bHKV.to(state_BHKV.dtype))
    return torch.cat(rows), torch.cat(states)


def rectangles(lengths: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Neighbouring sequences of equal lengths: which they are, and their tokens."""
    sequence = token = 0
    for length, alike in groupby(lengths):
        count = len(list(alike))
        yield slice(sequence, sequence + count), slice(token, token + count * length)
        sequence, token = sequence + count, token + count * length


def _rectangle(
    q_BGTK: Tensor, k_BGTK: Tensor, v_BHTV: Tensor, fade_BHT: Tensor, write_BHT: Tensor, state_BHKV: Tensor
) -> tuple[Tensor, Tensor]:
    """y (B, H, T, V) and the state behind it. The value heads of one key head stand on an axis R of their own."""
    groups = k_BGTK.shape[1]
    v, fade, write, state = (one.unflatten(1, (groups, -1)) for one in (v_BHTV, fade_BHT, write_BHT, state_BHKV))
    q, k, rows = q_BGTK[:, :, None], k_BGTK[:, :, None], []
    parts = (q.split(CHUNK, 3), k.split(CHUNK, 3), v.split(CHUNK, 3), fade.split(CHUNK, 3), write.split(CHUNK, 3))
    for chunk in zip(*parts, strict=True):
        y, state = _chunk(*chunk, state)
        rows.append(y)
    return torch.cat(rows, 3).flatten(1, 2), state.flatten(1, 2)


def _chunk(q: Tensor, k: Tensor, v: Tensor, fade: Tensor, write: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """q, k (B, G, 1, C, K), v (B, G, R, C, V), fade and write (B, G, R, C), state (B, G, R, K, V) -> y as v, state."""
    count = k.shape[3]
    c = fade.cumsum(-1)
    later = torch.ones(count, count, dtype=torch.bool, device=k.device).triu(1)
    # Hidden before the exponential: what came later would have grown, perhaps beyond all numbers.
    faded_CC = (c[..., :, None] - c[..., None, :]).masked_fill(later, float("-inf")).exp()
    since, until, b = c.exp()[..., None], (c[..., -1:] - c).exp()[..., None], write[..., None]
    system_CC = b * faded_CC * (k @ k.mT)  # its diagonal is taken for ones
    u = torch.linalg.solve_triangular(system_CC, b * (v - since * (k @ state)), upper=False, unitriangular=True)
    y = since * (q @ state) + (faded_CC * (q @ k.mT)) @ u
    return y, since[..., -1:, :] * state + k.mT @ (until * u)
