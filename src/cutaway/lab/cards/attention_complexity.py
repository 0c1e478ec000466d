"""How arithmetic and cache grow with the context: for full attention, for a window, and for linear attention.

Full: Vaswani et al. 2017 (arXiv 1706.03762), table 1. Window: Child et al. 2019 (arXiv 1904.10509), Beltagy et al. 2020
(arXiv 2004.05150). Linear: Katharopoulos et al. 2020 (arXiv 2006.16236), section 3.4:
y_t = phi(q_t) S_t / phi(q_t) z_t, S_t = S_(t-1) + phi(k_t) v_t^T, z_t = z_(t-1) + phi(k_t).
Multiplications are counted while the parts run (of full
attention and window the form in tiles, which leaves out what is not seen); bytes are those of a real cache.
Departure: the linear part is written out here alone, one head after the state; projections are left out of all three.
T tokens · G kv head · K head dim.   Read next: lab/cards/flash_memory_slope.py
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cutaway.lab.card import Card, Finding, Near
from cutaway.lab.checks.memory import slope
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.cache import ContiguousCache
from cutaway.ops.tiled import attend_tiled
from cutaway.ops.visible import Visible

TOKENS = (1024, 2048, 4096)
FEW = (64, 128, 256)  # of the linear part, which runs token by token
HEADS, WIDTH, WINDOW = 1, 8, 128


def linear(q_THK: Tensor, k_THK: Tensor, v_THK: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (T, H, K) and the last state (H, K, K + 1): sums of keys times values, and of keys."""
    q, k = F.elu(q_THK) + 1, F.elu(k_THK) + 1
    v = torch.cat((v_THK, torch.ones_like(v_THK[..., :1])), -1)
    state_HKV, outputs = q.new_zeros(q.shape[1], q.shape[2], v.shape[2]), []
    for q_HK, k_HK, v_HV in zip(q, k, v, strict=True):
        state_HKV = torch.baddbmm(state_HKV, k_HK[:, :, None], v_HV[:, None])
        summed_HV = (q_HK[:, None] @ state_HKV)[:, 0]
        outputs.append(summed_HV[:, :-1] / summed_HV[:, -1:])
    return torch.stack(outputs), state_HKV


@torch.no_grad()
def flops(tokens: int, window: int | None = None, attend: Callable[..., Tensor] | None = attend_tiled) -> int:
    """Of one causal pass over so many tokens, as torch counts them; `attend` None is the linear part."""
    q, k, v = (torch.zeros(tokens, HEADS, WIDTH) for _ in range(3))
    with FlopCounterMode(display=False) as counter:
        if attend is None:
            linear(q, k, v)
        else:
            attend(q, k, v, Visible(queries=(tokens,), keys=(tokens,), window=window), scale=1.0)
    return counter.get_total_flops()


def cached(tokens: int, window: int | None = None) -> int:
    """Bytes that a cache really holds behind so many tokens."""
    value = GroupedQuery(heads=HEADS, kv_heads=HEADS, head_dim=WIDTH, window=window)
    streams = value.streams(HEADS * WIDTH)
    cache = ContiguousCache((streams,), capacity=1, slack=0)
    for _ in range(tokens // WINDOW):
        for stream in streams:
            cache.append(0, stream.name, torch.zeros(WINDOW, *stream.shape), (WINDOW,))
        cache.advance((WINDOW,))
    return sum(rows.numel() * rows.element_size() for rows in (cache.read(0, one.name)[0] for one in streams))


def _compute() -> tuple[Finding, ...]:
    state = linear(*torch.zeros(3, 1, HEADS, WIDTH))[1].numel()
    grown = (
        ("FLOPs, full", 2.0, [flops(tokens) for tokens in TOKENS]),
        ("FLOPs, window of 128", 1.0, [flops(tokens, WINDOW) for tokens in TOKENS]),
        ("FLOPs, linear", 1.0, [flops(tokens, attend=None) for tokens in FEW]),
        ("cache, full", 1.0, [cached(tokens) for tokens in TOKENS]),
    )
    flat = (
        ("cache, window of 128", [cached(tokens, WINDOW) for tokens in TOKENS]),
        ("cache, linear", [linear(*torch.zeros(3, tokens, HEADS, WIDTH))[1].numel() for tokens in FEW]),
    )
    findings = [
        Finding(what=f"slope of {what}", expected=Near(value=value, tolerance=0.05), ours=slope(TOKENS, amounts))
        for what, value, amounts in grown
    ]
    findings += [
        Finding(what=f"slope of {what}", expected=Near(value=0.0), ours=slope(TOKENS, one)) for what, one in flat
    ]
    return (
        *findings,
        Finding(what="numbers in the linear state", expected=Near(value=WIDTH * (WIDTH + 1)), ours=state),
    )


CARD = Card(
    name="attention-complexity",
    claim="With the context, full attention's arithmetic grows as its square and its cache as itself; a window's and "
    "linear attention's arithmetic as itself, and their cache not at all.",
    source="Vaswani et al. 2017 (arXiv 1706.03762), table 1; Katharopoulos et al. 2020 (arXiv 2006.16236), section 3.4",
    computed="multiplications counted while the parts run, bytes of a real cache; slopes between logarithms",
    tolerance="5%: half of a tile on the diagonal and the window's first rows do not grow; a cache is exact",
    seconds=4,
    compute=_compute,
)
