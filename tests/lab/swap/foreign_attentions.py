"""Attentions by other hands: whole functions in styles of their own, right and wrong, unlike those of `attentions`."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from cutaway.ops.attend import attend_readable
from cutaway.ops.visible import Visible


def rows(q, k, v, see):
    """Sequence by sequence: (index, q, k, v), heads first."""
    told = zip(q.split(see.queries), k.split(see.keys), v.split(see.keys), strict=True)
    for index, (one, key, value) in enumerate(told):
        yield index, one.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)


def widened(x, heads):
    """(G, S, K) -> (H, S, K), each kv head beside itself."""
    return x[:, None].expand(-1, heads // x.shape[0], -1, -1).reshape(heads, *x.shape[1:])


def capped(scores, softcap):
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)


def softmaxed(scores, seen):
    return torch.nan_to_num(torch.softmax(scores.masked_fill(~seen, float("-inf")), -1))


def of_sequences(one):
    """From (q, k, v (heads, tokens, width), see, index, scale, softcap) -> (H, T, V) to an `attend`."""

    def attend(q, k, v, see, *, scale, softcap=None, dropout=0.0, bias=None):
        done = []
        for index, a, b, c in rows(q, k, v, see):
            add = None if bias is None else bias(index).float()
            done.append(one(a.float(), b.float(), c.float(), see, index, scale, softcap, add).transpose(0, 1))
        return torch.cat(done).to(q.dtype)

    return attend


def plain(q, k, v, see, index, scale, softcap, add, mask=None, key=widened, value=widened):
    scores = capped(q @ key(k, q.shape[0]).mT * scale, softcap)
    scores = scores if add is None else scores + add
    return softmaxed(scores, see.mask(index) if mask is None else mask) @ value(v, q.shape[0])


def masking(mask):
    return of_sequences(lambda *given: plain(*given, mask=mask(given[3], given[4])))


# Right ones.


def online(q, k, v, see, index, scale, softcap, add, *, block=4, rescale=True, start=float("-inf"), last=True):
    """Blocks of keys, with a running maximum."""
    heads, queries, _ = q.shape
    top = torch.full((heads, queries, 1), start)
    below, above = torch.zeros_like(top), torch.zeros(heads, queries, v.shape[-1])
    seen, k, v = see.mask(index), widened(k, heads), widened(v, heads)
    for first in range(0, k.shape[1] if last else max(block, k.shape[1] // block * block), block):
        here = slice(first, first + block)
        scores = capped(q @ k[:, here].mT * scale, softcap)
        scores = scores if add is None else scores + add[..., here]
        scores = scores.masked_fill(~seen[:, here], float("-inf"))
        new = torch.maximum(top, scores.amax(-1, keepdim=True)).clamp(min=-1e30)
        grown, shrunk = (scores - new).exp(), (top - new).exp() if rescale else 1.0
        below, above, top = below * shrunk + grown.sum(-1, keepdim=True), above * shrunk + grown @ v[:, here], new
    return above / torch.where(below == 0, 1.0, below) if start < -1 else above / below


def in_one_go(q, k, v, see, *, scale, softcap=None, dropout=0.0, bias=None):
    """All sequences at once under one block-diagonal mask."""
    seen = torch.block_diag(*(see.mask(i).float() for i in range(len(see.queries)))).bool()
    q, k, v, kind = q.float(), k.float(), v.float(), q.dtype
    grouped = q.reshape(q.shape[0], k.shape[1], -1, q.shape[2])
    scores = capped(torch.einsum("ngrk,sgk->grns", grouped, k) * scale, softcap)
    if bias is not None:
        blocks = [bias(i).float() for i in range(len(see.queries))]
        whole = torch.stack([torch.block_diag(*(one[h] for one in blocks)) for h in range(q.shape[1])])
        scores = scores + whole.reshape(scores.shape)
    return torch.einsum("grns,sgv->ngrv", softmaxed(scores, seen), v).flatten(1, 2).to(kind)


def log_space(q, k, v, see, index, scale, softcap, add):
    scores = capped(torch.einsum("htk,hsk->hts", q, k.repeat_interleave(q.shape[0] // k.shape[0], 0)) * scale, softcap)
    scores = (scores if add is None else scores + add) + torch.where(see.mask(index), 0.0, float("-inf"))
    weights = (scores - torch.logsumexp(scores, -1, keepdim=True)).exp().nan_to_num()
    return torch.einsum("hts,hsv->htv", weights, v.repeat_interleave(q.shape[0] // v.shape[0], 0))


def padded(q, k, v, see, *, scale, softcap=None, dropout=0.0, bias=None):
    """A padded batch, as most libraries have it."""
    if not see.queries:
        return q.new_zeros(0, q.shape[1], v.shape[2])
    batch, most_q, most_k = len(see.queries), max(see.queries), max(see.keys)
    pad = torch.nn.utils.rnn.pad_sequence
    qs, ks, vs = (
        pad([x.float() for x in t.split(n)], batch_first=True).transpose(1, 2)
        for t, n in ((q, see.queries), (k, see.keys), (v, see.keys))
    )
    seen = torch.zeros(batch, 1, most_q, most_k, dtype=torch.bool)
    for i in range(batch):
        seen[i, 0, : see.queries[i], : see.keys[i]] = see.mask(i)
    times = q.shape[1] // k.shape[1]
    scores = capped(qs @ ks.repeat_interleave(times, 1).mT * scale, softcap)
    if bias is not None:
        add = torch.zeros_like(scores)
        for i in range(batch):
            add[i, :, : see.queries[i], : see.keys[i]] = bias(i).float()
        scores = scores + add
    out = (softmaxed(scores, seen) @ vs.repeat_interleave(times, 1)).transpose(1, 2)
    return torch.cat([out[i, :n] for i, n in enumerate(see.queries)]).to(q.dtype)


FOREIGN_RIGHT = {
    "online softmax": of_sequences(online),
    "block diagonal": in_one_go,
    "log space": of_sequences(log_space),
    "padded batch": padded,
    "expand and reshape": of_sequences(plain),
}

# Wrong ones.


def with_sdpa(q, k, v, see, *, scale, softcap=None, dropout=0.0):
    if softcap is not None:
        return attend_readable(q, k, v, see, scale=scale, softcap=softcap)
    told = {"scale": scale, "enable_gqa": True, "is_causal": see.causal}
    return torch.cat(
        [F.scaled_dot_product_attention(a, b, c, **told).transpose(0, 1) for _, a, b, c in rows(q, k, v, see)]
    )


def readme_of_old(q, k, v, see, *, scale, softcap=None, dropout=0.0):
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = capped(torch.einsum("nhk,shk->hns", q, k) * scale, softcap)
    weights = scores.masked_fill(~see.mask(0), float("-inf")).softmax(-1)
    return torch.einsum("hns,shk->nhk", weights, v)


def through_numpy(q, k, v, see, index, scale, softcap, add):
    q, k, v = (x.detach().numpy() for x in (q, widened(k, len(q)), widened(v, len(q))))
    scores = np.einsum("htk,hsk->hts", q, k) * scale
    scores = scores if softcap is None else softcap * np.tanh(scores / softcap)
    scores = scores if add is None else scores + add.numpy()
    scores = np.where(see.mask(index).numpy(), scores, -np.inf)
    top = scores.max(-1, keepdims=True, initial=-1e30)
    grown = np.exp(scores - top)
    return torch.from_numpy((grown / np.maximum(grown.sum(-1, keepdims=True), 1e-30)) @ v)


def near(see, index, *, more=0, both=True, decode=True):
    """The window by hand."""
    queries, keys = see.queries[index], see.keys[index]
    free = Visible(queries=see.queries, keys=see.keys, causal=see.causal, prefix=see.prefix).mask(index)
    if see.window is None or (queries == 1 and not decode):
        return free
    away = torch.arange(keys - queries, keys)[:, None] - torch.arange(keys)
    return free & ((away.abs() if both else away) < see.window + more) | (torch.arange(keys) < see.sinks) & free


def first_prefix(see, index):
    prefix = None if see.prefix is None else (see.prefix[0],) * len(see.prefix)
    return Visible(queries=see.queries, keys=see.keys, causal=see.causal, window=see.window, prefix=prefix).mask(index)


def no_sinks(see, index):
    rest = {name: value for name, value in vars(see).items() if name != "sinks"}
    return Visible(**rest).mask(index)


def first_keys(q, k, v, see, index, scale, softcap, add):
    """Only as many keys as there are queries: what a cache holds is forgotten."""
    many = q.shape[1]
    if k.shape[1] <= many:
        return plain(q, k, v, see, index, scale, softcap, add)
    add = None if add is None else add[..., -many:]
    return plain(q, k[:, -many:], v[:, -many:], see, index, scale, softcap, add, mask=see.mask(index)[:, -many:])


def even_width(q, k, v, see, index, scale, softcap, add):
    half = q.shape[-1] // 2 * 2 or 1
    return plain(q[..., :half], k[..., :half], v, see, index, scale, softcap, add)


def scrambled(q, k, v, see, index, scale, softcap, add):
    right = plain(q, k, v, see, index, scale, softcap, add)
    return right.reshape(right.shape[1], right.shape[0], -1).transpose(0, 1)


def thirds(q, k, v, see, index, scale, softcap, add):
    """A head too few where the share is three."""
    right = plain(q, k, v, see, index, scale, softcap, add)
    return right if q.shape[0] // k.shape[0] != 3 else right.roll(1, 0)


def hidden_by(number):
    def one(q, k, v, see, index, scale, softcap, add):
        scores = capped(q @ widened(k, len(q)).mT * scale, softcap)
        scores = scores if add is None else scores + add
        return scores.masked_fill(~see.mask(index), number).softmax(-1) @ widened(v, len(q))

    return of_sequences(one)


def always_dropped(q, k, v, see, *, scale, softcap=None, dropout=0.0):
    return F.dropout(attend_readable(q, k, v, see, scale=scale, softcap=softcap), 0.1)


def bias_late(q, k, v, see, index, scale, softcap, add):
    right = plain(q, k, v, see, index, scale, softcap, None)
    return right if add is None else right + (add * see.mask(index)) @ widened(v, len(q))


def bias_scaled(q, k, v, see, index, scale, softcap, add):
    return plain(q, k, v, see, index, scale, softcap, None if add is None else add * scale)


def backwards_batch(q, k, v, see, *, scale, softcap=None, dropout=0.0, bias=None):
    parts = [plain(a.float(), b.float(), c.float(), see, i, scale, softcap, None if bias is None else bias(i).float())
             for i, a, b, c in rows(q, k, v, see)]  # fmt: skip
    return torch.cat([one.transpose(0, 1) for one in parts[::-1]]).to(q.dtype)


def wide_answer(q, k, v, see, **told):
    return attend_readable(q, k, v, see, **told).float()


def spoils_values(q, k, v, see, **told):
    got = attend_readable(q, k, v, see, **told)
    with torch.no_grad():
        v.mul_(0.5)
    return got


def stacked(q, k, v, see, *, scale, softcap=None, dropout=0.0, bias=None):
    """A query at a time, and nothing for a sequence that has none."""
    done = []
    for i, a, b, c in rows(q, k, v, see):
        add = None if bias is None else bias(i).float()
        told = (a.float(), b.float(), c.float(), see, i, scale, softcap, add)
        done.append(torch.stack([plain(*told)[:, t] for t in range(see.queries[i])]))
    return torch.cat(done).to(q.dtype)


def short_table(q, k, v, see, **told):
    """A mask made once, for 64 tokens."""
    table = torch.ones(64, 64, dtype=torch.bool).tril()

    def mask(see, i):
        return (
            see.mask(i) & table[: see.queries[i], : see.keys[i]]
            if see.queries[i] == see.keys[i] and see.causal
            else see.mask(i)
        )

    return masking(mask)(q, k, v, see, **told)


def scaled_values(q, k, v, see, index, scale, softcap, add):
    return plain(q, k, v, see, index, scale, softcap, add) * scale


def exchanged(q, k, v, see, index, scale, softcap, add):
    return plain(q, v, k, see, index, scale, softcap, add)


def divided_by_count(q, k, v, see, index, scale, softcap, add):
    scores = capped(q @ widened(k, len(q)).mT * scale, softcap)
    grown = (scores if add is None else scores + add).exp() * see.mask(index)
    return grown @ widened(v, len(q)) / see.mask(index).sum(-1, keepdim=True).clamp(min=1)


FOREIGN_WRONG = {
    "sdpa is_causal": (with_sdpa, "cache offset"),
    "first sequence's mask": (readme_of_old, "ragged batches"),
    "through numpy": (of_sequences(through_numpy), "gradient"),
    "window one more": (masking(lambda see, i: near(see, i, more=1)), "window"),
    "window one less": (masking(lambda see, i: near(see, i, more=-1)), "window"),
    "window to one side": (masking(lambda see, i: near(see, i, both=False)), "window"),
    "no window in decoding": (masking(lambda see, i: near(see, i, decode=False)), "window"),
    "first prefix for all": (masking(first_prefix), "prefix"),
    "sinks forgotten": (masking(no_sinks), "sinks"),
    "cache forgotten": (of_sequences(first_keys), "cache offset"),
    "even widths only": (of_sequences(even_width), "widths"),
    "heads and tokens mixed": (of_sequences(scrambled), "head order"),
    "wrong for three heads a group": (of_sequences(thirds), "head order"),
    "keys in turn": (of_sequences(lambda *g: plain(*g, key=lambda x, h: x.repeat(h // len(x), 1, 1))), "head order"),
    "values in turn": (
        of_sequences(lambda *g: plain(*g, value=lambda x, h: x.repeat(h // len(x), 1, 1))), "head order"),
    "hidden by -100": (hidden_by(-100.0), "large scores"),
    "maximum from zero": (of_sequences(lambda *g: online(*g, start=0.0)), "large scores"),
    "not rescaled": (of_sequences(lambda *g: online(*g, block=16, rescale=False)), "lengths"),
    "last block left out": (of_sequences(lambda *g: online(*g, block=8, last=False)), "lengths"),
    "always dropped": (always_dropped, "same answer twice"),
    "bias after the softmax": (of_sequences(bias_late), "bias"),
    "bias scaled": (of_sequences(bias_scaled), "bias"),
    "sequences backwards": (backwards_batch, "sequences apart"),
    "float32 answers": (wide_answer, "dtype"),
    "values spoilt": (spoils_values, "in-place change of an input"),
    "no queries": (stacked, "no tokens"),
    "64 tokens at most": (short_table, "lengths"),
    "values scaled too": (of_sequences(scaled_values), "weights sum to 1"),
    "keys and values exchanged": (of_sequences(exchanged), "keys and values"),
    "divided by the count": (of_sequences(divided_by_count), "weights sum to 1"),
}  # fmt: skip
