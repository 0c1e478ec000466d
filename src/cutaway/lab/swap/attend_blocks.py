"""`ops.attend_blocks` as a part to replace: attention over chosen blocks of keys.

With every block chosen it is attention, and has attention's probes; what is left is the choice itself.
N tokens, flat · T query position · S key position · H query head · G kv head · K head dim · J place in the choice
Read next: ops/block_sparse.py, lab/swap/attend.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cutaway.lab.swap import attend
from cutaway.lab.swap.as_function import seen_as
from cutaway.lab.swap.general import form_probes
from cutaway.lab.swap.part import Candidate, Part, Probe
from cutaway.lab.swap.sight import SEEN, normal
from cutaway.lab.swap.trial import Trial, attempt
from cutaway.lab.swap.verdict import Case
from cutaway.ops.block_sparse import attend_blocks_readable
from cutaway.ops.visible import Visible

# Queries and keys of the sequences, query heads, kv heads, block, blocks that each query chooses.
CASES = (
    ((1,), (1,), 1, 1, 1, 1),
    ((2,), (2,), 1, 1, 1, 1),
    ((5,), (5,), 2, 1, 2, 2),
    ((1,), (7,), 4, 2, 2, 3),
    ((7,), (7,), 4, 2, 3, 2),
    ((3, 5), (3, 5), 2, 2, 2, 2),
    ((2, 1), (6, 4), 2, 1, 2, 2),
)
NOT_HERE = {
    "in-place change of an input", "shape", "dtype", "same answer twice", "gradient", "lengths", "bias", "window",
    "prefix", "sinks", "softcap", "both ways", "no tokens",
}  # fmt: skip


def choice(see: Visible, groups: int, block: int, count: int) -> Tensor:
    """(N, G, J): the query's own block and some before it, another choice for each kv head; -1 where there are none."""
    make, rows = torch.Generator().manual_seed(3), []
    for queries, keys in zip(see.queries, see.keys, strict=True):
        for place in range(keys - queries, keys):
            own = place // block
            for _ in range(groups):
                others = torch.randperm(own, generator=make).tolist()[: count - 1] if own else []
                rows.append([own, *others, *[-1] * (count - 1 - len(others))])
    return torch.tensor(rows).reshape(sum(see.queries), groups, count)


def trials(candidate: Candidate) -> Sequence[Callable[[], Case | None]]:
    made = []
    for queries, keys, heads, groups, block, count in CASES:
        see = Visible(queries=queries, keys=keys)
        shapes = ((sum(queries), heads, 3), (sum(keys), groups, 3), (sum(keys), groups, 3))
        q, k, v = (normal(*shape, seed=seed).double() for seed, shape in enumerate(shapes))
        made.append(
            Trial(
                what=f"queries={queries}, keys={keys}, heads={heads}, kv_heads={groups}, block={block}",
                inputs={"q": q, "k": k, "v": v, "see": see, "chosen": choice(see, groups, block, count)},
                options={"block": block, "scale": 0.7},
                # Its own loops over queries, heads and keys, which tests hold against plain attention.
                oracle=attend_blocks_readable,
                smooth=attend_blocks_readable,
                learned=("q", "k", "v"),
            )
        )
    return [partial(attempt, one, candidate) for one in made]


def with_all_blocks(blocks: Candidate) -> Candidate:
    """Attention: every block is chosen by every query."""

    def attend(q: Tensor, k: Tensor, v: Tensor, see: Visible, *, scale: float, softcap: float | None = None) -> Tensor:
        if not see.causal or see.window is not None or see.prefix is not None or softcap is not None:
            raise NotImplementedError("blocks have no such case")
        many = -(-max(see.keys) // 2)
        chosen = torch.arange(many).expand(q.shape[0], k.shape[1], many)
        return blocks(q, k, v, see, chosen, block=2, scale=scale)

    return attend


def _seen(blocks: Candidate, chosen: Tensor, keys: int, block: int, groups: int = 1) -> Tensor:
    """(H, T, S): which keys a query takes anything from, one query head for each kv head."""
    see = Visible(queries=(chosen.shape[0],), keys=(keys,))
    q, k = normal(chosen.shape[0], groups, keys) * keys**-0.5, normal(keys, groups, keys, seed=1)
    v = torch.eye(keys)[:, None].expand(keys, groups, keys).contiguous()
    with torch.no_grad():
        return blocks(q, k, v, see, chosen, block=block, scale=0.8).transpose(0, 1).nan_to_num().abs() > SEEN


def _expected(chosen_TJ: Tensor, keys: int, block: int) -> Tensor:
    key_S, first = torch.arange(keys), keys - chosen_TJ.shape[0]
    inside = (key_S // block == chosen_TJ[..., None]).any(1)
    return inside & (key_S <= first + torch.arange(chosen_TJ.shape[0])[:, None])


def _told(got_TS: Tensor, right_TS: Tensor, said: str) -> str | None:
    for t in range(got_TS.shape[0]):
        if not torch.equal(got_TS[t], right_TS[t]):
            found, right = (one.nonzero().flatten().tolist() for one in (got_TS[t], right_TS[t]))
            return f"{said}: query {t} takes from keys {found}, and should from {right}"
    return None


def _chosen(blocks: Candidate) -> str | None:
    for keys, block, rows in ((6, 2, [[2, 0], [2, 1]]), (7, 3, [[1, 0], [2, 0]]), (6, 3, [[0], [1]])):
        chosen = torch.tensor(rows)
        got = _seen(blocks, chosen[:, None], keys, block)[0]
        said = _told(got, _expected(chosen, keys, block), f"blocks {rows} of {block} keys")
        if said is not None:
            return said
    return None


def _none(blocks: Candidate) -> str | None:
    chosen = torch.tensor([[1, -1], [2, -1]])
    return _told(_seen(blocks, chosen[:, None], 6, 2)[0], _expected(chosen, 6, 2), "-1 stands for no block")


def _own(blocks: Candidate) -> str | None:
    chosen = torch.tensor([[[2, 0], [2, 1]]])
    for group, got in enumerate(_seen(blocks, chosen, 6, 2, groups=2)):
        said = _told(got, _expected(chosen[:, group], 6, 2), f"kv head {group} has a choice of its own")
        if said is not None:
            return said
    return None


def _call(blocks: Candidate, dtype: torch.dtype = torch.float32) -> tuple[tuple[Any, ...], dict[str, Any]]:
    see = Visible(queries=(5,), keys=(5,))
    q, k, v = (normal(5, 2, 4, seed=seed).to(dtype) for seed in range(3))
    return (q, k, v, see, choice(see, 2, 2, 2)), {"block": 2, "scale": 0.5}


def _bench() -> tuple[tuple[Any, ...], dict[str, Any]]:
    see = Visible(queries=(64,), keys=(64,))
    return (normal(64, 4, 16), normal(64, 2, 16, seed=1), normal(64, 2, 16, seed=2), see, choice(see, 2, 8, 3)), {
        "block": 8,
        "scale": 0.25,
    }


PART = Part(
    name="ops.attend_blocks",
    about="attention over the blocks of keys that were chosen for each query",
    ours=attend_blocks_readable,
    positional=5,
    named=("block", "scale"),
    optional={},
    trials=trials,
    probes=(
        *form_probes(_call, attend_blocks_readable, tensors=3),
        *seen_as(with_all_blocks, tuple(one for one in attend.PART.probes if one.property not in NOT_HERE)),
        Probe(property="chosen blocks", find=_chosen),
        Probe(property="no block", find=_none),
        Probe(property="each kv head's choice", find=_own),
    ),
    place="attend_blocks",
    bench=_bench,
)
