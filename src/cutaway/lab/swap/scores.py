"""Probes of attention's scores: logarithms of weights differ as scores do, so the scale can be read off.

log A_ts - log A_tu = scale * q_t . (k_s - k_u), whatever the softmax divides by.
S key position · H query head · K head dim.   Read next: lab/swap/attend.py
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cutaway.lab.swap.general import sizes_told, sorted_sizes
from cutaway.lab.swap.part import Candidate, Probe
from cutaway.lab.swap.sight import normal, weights
from cutaway.lab.swap.trial import close
from cutaway.ops.attend import attend_readable
from cutaway.ops.visible import Visible

WIDTH = 5
HIDDEN = 200.0  # of logarithms of weights: scores here are some units
ONE = (1, 1, 1)  # queries, query heads, kv heads
SEVERAL = {(3, 1, 1): "of three queries the last", (1, 4, 2): "of four heads that share two kv heads the first"}


def _given(among: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    queries, heads, groups = among
    return normal(queries, heads, WIDTH, seed=4), normal(WIDTH, groups, WIDTH, seed=5)


def _read(
    attend: Candidate,
    scale: float,
    softcap: float | None = None,
    size: float = 1.0,
    among: tuple[int, int, int] = ONE,
) -> tuple[Tensor, Tensor]:
    """(products q . k_s, logarithms of the weights), each (S,) less its first: of the last query's first head, which
    sees every key. `among`: how many queries, heads and kv heads there are."""
    queries, _, groups = among
    q, k = _given(among)
    q = q * size
    v, see = (
        torch.eye(WIDTH)[:, None].expand(WIDTH, groups, WIDTH).contiguous(),
        Visible(queries=(queries,), keys=(WIDTH,)),
    )
    with torch.no_grad():
        row_S = attend(q, k, v, see, scale=scale, softcap=softcap)[-1, 0].double()
    products_S = (q[-1, 0].double() * k[:, 0].double()).sum(-1)
    logs_S = row_S.clamp(min=1e-300).log()
    return products_S - products_S[0], logs_S - logs_S[0]


def _all_seen(read: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The same; ValueError, which ends a probe, where a key is hidden: then the mask is wrong, and not the scores."""
    if float(read[1].abs().max()) > HIDDEN:
        raise ValueError("a key is hidden")
    return read


def _effective(attend: Candidate, scale: float, among: tuple[int, int, int] = ONE) -> tuple[float, bool]:
    """The factor between products and scores, and whether there is one."""
    products_S, logs_S = _all_seen(_read(attend, scale, among=among))
    factor = float((products_S * logs_S).sum() / products_S.square().sum())
    return factor, float((logs_S - factor * products_S).abs().max()) < 1e-3


def _scale(attend: Candidate) -> str | None:
    """Of one query and head; where that is right, among several."""
    for among, which in ((ONE, ""), *SEVERAL.items()):
        said = _scaled(attend, among)
        if said is not None:
            return f"{which}: {said}" if which else said
    return None


def _scaled(attend: Candidate, among: tuple[int, int, int]) -> str | None:
    scales = (0.3, 0.8)
    found = [_effective(attend, scale, among) for scale in scales]
    if not all(proportional for _, proportional in found):
        return None  # said by `_products`
    got = [factor for factor, _ in found]

    def is_like(*meant: float) -> bool:
        return all(abs(one - other) < 1e-3 * max(1.0, abs(other)) for one, other in zip(got, meant, strict=True))

    if is_like(*scales):
        return None
    root = WIDTH**-0.5
    said = f"with scale {scales[0]} products are multiplied by {got[0]:.4g}"
    if is_like(1.0, 1.0):
        return f"{said}: the scale is ignored"
    if is_like(root, root):
        return f"{said}: 1/sqrt(width) in the place of `scale`"
    if is_like(*(scale * root for scale in scales)):
        return f"{said}: 1/sqrt(width) on top of `scale`"
    if is_like(*(scale * scale for scale in scales)):
        return f"{said}: the scale acts twice"
    if is_like(*(1 / scale for scale in scales)):
        return f"{said}: divided by the scale"
    if is_like(*(scale * math.log(2) for scale in scales)):
        return f"{said}: powers of 2 in the place of powers of e"
    if is_like(*(scale**0.5 for scale in scales)):
        return f"{said}: the root of the scale"
    return f"{said}, with scale {scales[1]} by {got[1]:.4g}"


def _products(attend: Candidate) -> str | None:
    if all(_effective(attend, scale)[1] for scale in (0.3, 0.8)):
        return None
    one, other = (_read(attend, 0.5, size=size)[1] for size in (1.0, 3.0))
    if close(one.float(), other.float(), 1e-3):
        return "queries three times as long give the same weights: their length is taken out"
    return "the weights' logarithms are not proportional to the products of query and keys"


def _axis(attend: Candidate) -> str | None:
    see = Visible(queries=(4,), keys=(4,), causal=False)
    found_HTS = weights(attend, see, heads=2, groups=2)
    ones = torch.ones(2, 4)
    if close(found_HTS.sum(-1), ones):
        return None
    if close(found_HTS.sum(1), ones):
        return "the softmax runs over queries: each key's weights sum to 1, not each query's"
    if close(found_HTS.sum(0), torch.ones(4, 4)):
        return "the softmax runs over heads: the heads' weights sum to 1, not each query's"
    return None


def _sum(attend: Candidate) -> str | None:
    see = Visible(queries=(4,), keys=(4,), causal=False)
    free_T = weights(attend, see)[0].sum(-1)
    if not close(free_T, torch.ones(4)):
        return f"a query's weights sum to {float(free_T[0]):.4g}, not to 1"
    causal_T = weights(attend, Visible(queries=(4,), keys=(4,)))[0].sum(-1)
    if not close(causal_T, torch.ones(4)):
        return (
            f"under a mask the first query's weights sum to {float(causal_T[0]):.4g}: hidden keys count below the line"
        )
    return None


def _softcap(attend: Candidate) -> str | None:
    for among, which in ((ONE, ""), *SEVERAL.items()):
        said = _capped(attend, among)
        if said is not None:
            return f"{which}: {said}" if which else said
    return None


def _capped(attend: Candidate, among: tuple[int, int, int]) -> str | None:
    cap, scale = 0.6, 0.5
    _, free_S = _all_seen(_read(attend, scale, among=among))
    _, got_S = _all_seen(_read(attend, scale, cap, among=among))
    if close(got_S.float(), free_S.float(), 1e-4):
        return "`softcap` is ignored"
    q, k = _given(among)
    raw_S = (q[-1, 0].double() * k[:, 0].double()).sum(-1)

    def is_like(scores_S: Tensor) -> bool:
        return close(got_S.float(), (scores_S - scores_S[0]).float(), 1e-3)

    if not is_like(cap * torch.tanh(scale * raw_S / cap)):
        spread = float(_read(attend, scale, cap, size=50.0, among=among)[1].abs().max())
        if spread > 2 * cap * 1.01:
            return f"with softcap {cap} two scores differ by {spread:.3g}, and bounded ones by {2 * cap} at most"
        if is_like(torch.tanh(scale * raw_S / cap)):
            return "tanh is not multiplied by the cap again"
        if is_like(scale * cap * torch.tanh(raw_S / cap)):
            return "the cap comes before the scale"
        return "capped scores are not cap * tanh(score / cap)"
    hidden_TS = weights(attend, Visible(queries=(3,), keys=(3,)), softcap=cap)[0]
    if float(hidden_TS.triu(1).abs().max()) > 1e-5:
        return "the cap comes after the mask: what is hidden is seen again"
    return None


def _overflow(attend: Candidate) -> str | None:
    q, v = torch.full((2, 1, 1), 1000.0), torch.tensor([[[1.0]], [[2.0]]])
    with torch.no_grad():
        got = attend(q, torch.tensor([[[1.0]], [[2.0]]]), v, Visible(queries=(2,), keys=(2,)), scale=1.0)
        below = attend(-q, torch.tensor([[[1.0]], [[2.0]]]), v, Visible(queries=(2,), keys=(2,)), scale=1.0)
    if not (bool(got.isfinite().all()) and close(got, v)):
        return "scores of 1,000 and 2,000 overflow: a softmax takes their maximum out first"
    if not bool(below.isfinite().all()):
        return "scores of -1,000 and -2,000 leave nothing to divide by: a softmax takes their own maximum out first"
    if close(below, torch.ones(2, 1, 1)):
        return None
    return "beside scores of -1,000 a hidden key counts: what hides it is a number, and not far enough below zero"


def _values(attend: Candidate) -> str | None:
    """Whatever the weights: values of twice the size give answers of twice the size."""
    see = Visible(queries=(3,), keys=(3,), causal=False)
    q, k, v = (normal(3, 1, 3, seed=seed) for seed in range(6, 9))
    with torch.no_grad():
        still, twice = attend(q, k, v, see, scale=0.5), attend(q, k, 2 * v, see, scale=0.5)
        keyed = attend(q, 2 * k, v, see, scale=0.5)
    if close(twice, 2 * still, 1e-3):
        return None
    if close(keyed, 2 * still, 1e-3):
        return "keys and values are exchanged: twice as large keys give twice as large answers, and values should"
    return "values that are twice as large do not give answers that are"


def _widths(attend: Candidate) -> str | None:
    """Which widths of a head come out wrong, if others are right."""
    see = Visible(queries=(3,), keys=(3,))

    def right(width: int) -> bool:
        q, k, v = (normal(3, 2, width, seed=seed) * width**-0.25 for seed in range(3))
        with torch.no_grad():
            return close(attend(q, k, v, see, scale=0.37), attend_readable(q, k, v, see, scale=0.37))

    widths = (1, 2, 3, 4, 5, 6, 7, 8, 16, 17, 32, 64, 80, 128)
    return sizes_told("widths of a head", *sorted_sizes(widths, right))


VALUES = Probe(property="keys and values", find=_values)
WIDTHS = Probe(property="widths", find=_widths)
AXIS = Probe(property="softmax axis", find=_axis)
PROBES = (
    Probe(property="weights sum to 1", find=_sum),
    Probe(property="scale", find=_scale),
    Probe(property="scores", find=_products),
    Probe(property="softcap", find=_softcap),
    Probe(property="large scores", find=_overflow),
)
