"""Attention of one new query per sequence over keys and values that lie in pages, scattered through a pool.

Kwon et al. 2023 (arXiv 2309.06180), section 4.1.   Token s of sequence b is row s % C of page table_BM[b, s // C].
Whoever serves many requests at once keeps keys and values so: a request takes a page when it needs one and gives it
back when it ends, and requests that begin alike share pages. The readable form gathers a sequence's pages into rows and
attends as always; the paged kernel of ops/triton/paged.py reads them where they lie.
B sequence · H query head · G kv head · K head dim · P page of the pool · C place in a page · M place in a page table
Read next: ops/attend.py, ops/triton/paged.py
"""

from __future__ import annotations

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.attend import attend_readable
from cutaway.ops.visible import Visible


def attend_paged_readable(
    q_BHK: Tensor,
    keys_PCGK: Tensor,
    values_PCGK: Tensor,
    table_BM: Tensor,
    lengths_B: Tensor,
    *,
    scale: float,
    softcap: float | None = None,
    window: int | None = None,
) -> Tensor:
    """y (B, H, width of values): each query sees the last `window` tokens of its sequence, or all, itself included.

    `table_BM`: the pages of each sequence in order, int; entries beyond its length are never read and may be anything.
    `lengths_B`: tokens of each sequence, int, the query's own (whose key and value are in the pool already) included; a
    sequence of none gets zeros. Raises BadInput for a length that its table cannot hold.
    """
    refuse_short(keys_PCGK, table_BM, lengths_B)
    rows = []
    for q_HK, pages_M, length in zip(q_BHK, table_BM, lengths_B.tolist(), strict=True):
        if not length:
            rows.append(q_HK.new_zeros(q_HK.shape[0], values_PCGK.shape[3]))
            continue
        pages_M = pages_M[: -(-length // keys_PCGK.shape[1])].long()
        k_SGK, v_SGK = keys_PCGK[pages_M].flatten(0, 1)[:length], values_PCGK[pages_M].flatten(0, 1)[:length]
        see = Visible(queries=(1,), keys=(length,), window=window)
        rows.append(attend_readable(q_HK[None], k_SGK, v_SGK, see, scale=scale, softcap=softcap)[0])
    return torch.stack(rows) if rows else q_BHK.new_zeros(0, q_BHK.shape[1], values_PCGK.shape[3])


def refuse_short(keys_PCGK: Tensor, table_BM: Tensor, lengths_B: Tensor) -> None:
    """Raises BadInput where a sequence is longer than the pages of its table."""
    room = keys_PCGK.shape[1] * table_BM.shape[1]
    if len(lengths_B) and int(lengths_B.max()) > room:
        raise BadInput(f"a sequence has {int(lengths_B.max())} tokens, its pages hold {room}", field="lengths_B")
