"""Probes of what attention looks at: its weights, read off by values that are unit vectors.

With v_s the s-th unit vector, query t's output is its row of weights. So what sees what shows in which are zero.
N tokens, flat · T query position · S key position · H query head · G kv head · K head dim
Read next: lab/swap/scores.py, lab/swap/attend.py
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cutaway.lab.swap.part import Candidate, Probe
from cutaway.lab.swap.trial import close
from cutaway.ops.visible import Visible

SEEN = 1e-5  # scores here are about 1, so that a key that is seen has a weight of some hundredths


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weights(attend: Candidate, see: Visible, *, heads: int = 1, groups: int = 1, seed: int = 0, **told: Any) -> Tensor:
    """(H, N, S): each query's weights over all keys of all sequences. Float32."""
    keys = sum(see.keys)
    q_NHK = normal(sum(see.queries), heads, keys, seed=seed) * keys**-0.5
    k_SGK = normal(keys, groups, keys, seed=seed + 1)
    v_SGK = torch.eye(keys)[:, None].expand(keys, groups, keys).contiguous()
    with torch.no_grad():
        # A scale of 1 would hide what is multiplied by it too much or too little.
        return attend(q_NHK, k_SGK, v_SGK, see, **{"scale": 0.8, **told}).transpose(0, 1)


def looked_at(attend: Candidate, see: Visible, **told: Any) -> Tensor:
    """(T, S): whether a query takes anything from a key (of one sequence)."""
    return weights(attend, see, **told)[0].nan_to_num().abs() > SEEN


def reaches(t: int, seen_S: Tensor) -> str:
    keys = [str(s) for s, one in enumerate(seen_S.tolist()) if one]
    return f"query {t} takes from keys {{{', '.join(keys)}}}"


def told_apart(got_TS: Tensor, see: Visible, also: dict[str, Tensor]) -> str | None:
    """How what is seen differs from the rule; `also`: other rules, by what each would mean."""
    right_TS = see.mask(0)
    if torch.equal(got_TS, right_TS):
        return None
    for meaning, other_TS in also.items():
        if torch.equal(got_TS, other_TS):
            return meaning
    t = int((got_TS != right_TS).any(-1).nonzero()[0])
    return f"{reaches(t, got_TS[t])}, and should from {reaches(t, right_TS[t]).partition('keys ')[2]}"


def _triangle(attend: Candidate) -> str | None:
    see = Visible(queries=(5,), keys=(5,))
    whole = torch.ones(5, 5, dtype=torch.bool)
    also = {
        "the mask is ignored: a query takes from keys that come after it": whole,
        "the mask is shifted by one: a query takes from the key after it": whole.tril(1),
        "the mask is shifted by one: a query does not take from its own key": whole.tril(-1),
        "the mask is upside down: a query takes from what comes after it": whole.triu(),
        "the mask is inverted: a query takes from exactly what is hidden from it": whole.triu(1),
    }
    return told_apart(looked_at(attend, see), see, also)


def _own_key(attend: Candidate) -> str | None:
    """By differences, in case the weights were not to be read: a later key must not count, the present one must."""
    see = Visible(queries=(4,), keys=(4,))
    q, k, v = normal(4, 1, 4), normal(4, 1, 4, seed=1), normal(4, 1, 4, seed=2)
    moved = v.clone()
    moved[2] += 1.0
    with torch.no_grad():
        change_N = (attend(q, k, moved, see, scale=0.5) - attend(q, k, v, see, scale=0.5)).flatten(1).abs().amax(1)
    if bool((change_N[:2] > SEEN).any()):
        return "changing the value at position 2 changes the outputs of earlier queries"
    return None if bool((change_N[2:] > SEEN).all()) else "changing the value at position 2 changes too few outputs"


def _offset(attend: Candidate) -> str | None:
    for queries, keys in ((2, 5), (1, 4)):
        see = Visible(queries=(queries,), keys=(keys,))
        whole = torch.ones(queries, keys, dtype=torch.bool)
        also = {
            f"{queries} queries with {keys} keys are taken to stand at the start, not at the end": whole.tril(),
            f"{queries} queries with {keys} keys: the mask is ignored": whole,
            f"{queries} queries with {keys} keys: a query stands one key too early": whole.tril(keys - queries - 1),
            f"{queries} queries with {keys} keys: a query stands one key too late": whole.tril(keys - queries + 1),
        }
        found = told_apart(looked_at(attend, see), see, also)
        if found is not None:
            return found
    return None


def _both_ways(attend: Candidate) -> str | None:
    for queries, keys in ((4, 4), (2, 5)):
        see = Visible(queries=(queries,), keys=(keys,), causal=False)
        causal = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
        found = told_apart(looked_at(attend, see), see, {"`see.causal` is ignored: always causal": causal})
        if found is not None:
            return found
    return None


def _window(attend: Candidate) -> str | None:
    for queries, keys, window in ((6, 6, 3), (2, 6, 3), (1, 6, 3)):
        see = Visible(queries=(queries,), keys=(keys,), window=window)
        also = {"`see.window` is ignored": Visible(queries=(queries,), keys=(keys,)).mask(0)}
        for other in (window - 1, window + 1):
            said = f"the window holds {other} keys, not {window}: it counts the query's own position"
            also[said] = Visible(queries=(queries,), keys=(keys,), window=other).mask(0)
        found = told_apart(looked_at(attend, see), see, also)
        if found is not None:
            return found
    see = Visible(queries=(6,), keys=(6,), causal=False, window=2)
    behind = torch.ones(6, 6, dtype=torch.bool).triu(-1)
    also = {
        "without `see.causal` the window has two sides; here it ends on one": behind,
        "without `see.causal` the window has two sides; here keys that come after are hidden": behind.tril(),
        "without `see.causal` the window is ignored": torch.ones(6, 6, dtype=torch.bool),
    }
    return told_apart(looked_at(attend, see), see, also)


def _sinks(attend: Candidate) -> str | None:
    for queries, keys, sinks in ((6, 6, 1), (6, 6, 2), (2, 6, 2), (1, 6, 2)):
        see = Visible(queries=(queries,), keys=(keys,), window=2, sinks=sinks)
        also = {"`see.sinks` is ignored": Visible(queries=(queries,), keys=(keys,), window=2).mask(0)}
        found = told_apart(looked_at(attend, see), see, also)
        if found is not None:
            return f"window=2, sinks={sinks}: {found}"
    return None


def _prefix(attend: Candidate) -> str | None:
    for window, queries in ((None, 5), (2, 5), (None, 1), (None, 3)):
        see = Visible(queries=(queries,), keys=(5,), prefix=(3,), window=window)
        also = {"`see.prefix` is ignored": Visible(queries=(queries,), keys=(5,), window=window).mask(0)}
        found = told_apart(looked_at(attend, see), see, also)
        if found is not None:
            return found
    if _apart(attend) is not None:
        return None  # said by its own probe
    see = Visible(queries=(4, 4), keys=(4, 4), prefix=(3, 1))
    seen_NS = weights(attend, see)[0].nan_to_num().abs() > SEEN
    if torch.equal(seen_NS, torch.block_diag(see.mask(0), see.mask(1)).bool()):
        return None
    return "two sequences with prefixes of 3 and 1 tokens: each has its own, and one is given the other's"


def _apart(attend: Candidate) -> str | None:
    """Sequences of one batch do not see each other."""
    for lengths in ((2, 2), (3, 2)):
        see = Visible(queries=lengths, keys=lengths)
        first = lengths[0]
        seen_NS = weights(attend, see)[0].nan_to_num().abs() > SEEN
        crossed = bool(seen_NS[first:, :first].any()) or bool(seen_NS[:first, first:].any())
        if crossed and not bool(seen_NS[:first, :first].any()):
            return f"two sequences of {lengths[0]} and {lengths[1]} tokens come out in each other's place"
        if crossed:
            return f"of two sequences of {lengths[0]} and {lengths[1]} tokens, one takes from the other"
    return None


def _ragged(attend: Candidate) -> str | None:
    """Each sequence of a batch comes out as it does alone, under every rule."""
    lengths = (((3, 3), (3, 3)), ((3, 1, 2), (3, 1, 2)), ((1, 2), (4, 3)), ((2, 1), (5, 2)), ((1, 1), (3, 4)))
    rules: tuple[dict[str, Any], ...] = (
        *({}, {"causal": False}, {"window": 2}, {"window": 2, "sinks": 1}, {"prefix": 2}, {"softcap": 0.6}),
    )
    for rule in rules:
        for queries, keys in lengths:
            found = _unlike_alone(attend, queries, keys, dict(rule))
            if found is not None:
                under = ", ".join(f"{name}={value}" for name, value in rule.items())
                return f"under {under} {found}" if under else found
    return None


def _unlike_alone(
    attend: Candidate, queries: tuple[int, ...], keys: tuple[int, ...], rule: dict[str, Any]
) -> str | None:
    q, k, v = normal(sum(queries), 2, 4), normal(sum(keys), 1, 4, seed=1), normal(sum(keys), 1, 4, seed=2)
    told, prefix = {"scale": 0.5, "softcap": rule.pop("softcap", None)}, rule.pop("prefix", None)
    each = None if prefix is None else tuple(min(prefix, held) for held in keys)
    alone, start, key = [], 0, 0
    with torch.no_grad():
        for place, (many, held) in enumerate(zip(queries, keys, strict=True)):
            own = None if each is None else each[place : place + 1]
            see = Visible(queries=(many,), keys=(held,), prefix=own, **rule)
            parts = (q[start : start + many], k[key : key + held], v[key : key + held])
            alone.append(attend(*parts, see, **told))
            start, key = start + many, key + held
        try:
            together = attend(q, k, v, Visible(queries=queries, keys=keys, prefix=each, **rule), **told)
        except Exception as error:
            said = f"sequences of {queries} queries and {keys} keys in one batch end in {type(error).__name__}"
            return f"{said}; each alone does not"
    if close(together, torch.cat(alone)):
        return None
    return f"sequences of {queries} queries and {keys} keys come out otherwise in a batch than alone"


def heads_moved(attend: Candidate, heads: int, groups: int, which: str) -> list[list[int]]:
    """For each kv head, or query head, the heads whose outputs move with it."""
    see = Visible(queries=(3,), keys=(3,))
    given = {
        "query": normal(3, heads, 4),
        "key": normal(3, groups, 4, seed=1),
        "value": normal(3, groups, 4, seed=2),
    }
    with torch.no_grad():
        still, moved = attend(*given.values(), see, scale=0.5), []
        for head in range(given[which].shape[1]):
            other = {name: one.clone() for name, one in given.items()}
            # Not by one and the same number: a softmax does not see that.
            other[which][:, head] += normal(3, 4, seed=3)
            change_H = (attend(*other.values(), see, scale=0.5) - still).abs().amax((0, 2))
            moved.append([head for head, change in enumerate(change_H.tolist()) if not change < 1e-6])
    return moved


def _heads(attend: Candidate) -> str | None:
    for heads, groups in ((4, 2), (6, 2), (6, 3), (2, 2), (3, 1), (4, 1), (8, 2), (8, 8), (9, 3), (16, 4)):
        share = heads // groups
        right = [list(range(group * share, (group + 1) * share)) for group in range(groups)]
        for which in ("value", "key"):
            got = heads_moved(attend, heads, groups, which)
            if got == right:
                continue
            said = f"{heads} query heads, {groups} kv heads: {which} head 0 serves query heads {got[0]}"
            if got == [list(range(group, heads, groups)) for group in range(groups)]:
                return f"{said}: kv heads are repeated in turn (0, 1, 0, 1), not each beside itself (0, 0, 1, 1)"
            return f"{said}, and should serve {right[0]}"
        own = heads_moved(attend, heads, groups, "query")
        if own != [[head] for head in range(heads)]:
            said = f"{heads} query heads, {groups} kv heads"
            return f"{said}: query head 0 comes out in heads {own[0]}, and should in [0]"
    return None


PROBES = (
    Probe(property="head order", find=_heads),
    Probe(property="mask", find=_triangle),
    Probe(property="cache offset", find=_offset),
    Probe(property="both ways", find=_both_ways),
    Probe(property="window", find=_window),
    Probe(property="prefix", find=_prefix),
    Probe(property="causality", find=_own_key),
    Probe(property="sequences apart", find=_apart),
    Probe(property="sinks", find=_sinks),
)
BATCH = Probe(property="ragged batches", find=_ragged)
