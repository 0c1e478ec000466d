"""Versions that the probes had not met: rounded where others are not, right until something is larger or shared."""

from __future__ import annotations

import math

import torch

from cutaway.ops.visible import Visible

# Attention.


def attention(
    *, scale=lambda scale, q: scale, capped=True, mask=None, after=lambda y_NHV: y_NHV, shrink=1.0, wide=None
):
    """Query heads of a group as an axis of their own, key heads never copied."""

    def attend(q, k, v, see, *, scale, softcap=None, dropout=0.0, bias=None, _scale=scale):
        done = []
        for i, (a, b, c) in enumerate(zip(q.split(see.queries), k.split(see.keys), v.split(see.keys), strict=True)):
            a, b, c, groups = a.float()[..., :wide], b.float()[..., :wide], c.float(), k.shape[1]
            scores = torch.einsum("tgrk,sgk->grts", a.unflatten(1, (groups, -1)), b) * _scale(scale, q)
            if softcap is not None and capped:
                scores = softcap * torch.tanh(scores / softcap)
            if bias is not None:
                add = bias(i).float()
                scores = scores + (add.unflatten(0, (groups, -1)) if len(add) > 1 else add)
            seen = see.mask(i) if mask is None else mask(see, i)
            weights = torch.nan_to_num(scores.masked_fill(~seen, -math.inf).softmax(-1)) * shrink
            done.append(torch.einsum("grts,sgv->tgrv", weights, c).flatten(1, 2))
        return after(torch.cat(done)).to(q.dtype) if done else q.new_zeros(0, q.shape[1], v.shape[2])

    return attend


def when(test, wrong):
    """Right, but for some calls."""

    def attend(q, k, v, see, *, scale, softcap=None, dropout=0.0, bias=None):
        form = wrong if test(q, k, see) else attention()
        return form(q, k, v, see, scale=scale, softcap=softcap, bias=bias)

    return attend


def free(see, index):
    return Visible(queries=see.queries, keys=see.keys, causal=see.causal, prefix=see.prefix).mask(index)


def window_from_the_start(see, index):
    """Distances counted as if there was no cache."""
    if see.window is None:
        return free(see, index)
    keys = torch.arange(see.keys[index])
    away = (torch.arange(see.queries[index])[:, None] - keys).abs()
    return free(see, index) & ((away < see.window) | (keys < see.sinks))


def sinks_at_once(see, index):
    return see.mask(index) | (torch.arange(see.keys[index]) < see.sinks)


def longer_prefix(see, index):
    if see.prefix is None:
        return see.mask(index)
    told = {name: value for name, value in vars(see).items() if name != "prefix"}
    more = tuple(min(one + 1, keys) for one, keys in zip(see.prefix, see.keys, strict=True))
    return Visible(**told, prefix=more).mask(index)


def offset_of_the_longest(see, index):
    """As in a padded batch whose texts all end where the longest does."""
    queries, keys = see.queries[index], see.keys[index]
    if not see.causal or see.window or see.prefix:
        return see.mask(index)
    return torch.ones(queries, keys, dtype=torch.bool).tril(max(see.keys) - max(see.queries))


def largest_of_all(q, k, v, see, *, scale, softcap=None, dropout=0.0):
    """One maximum for the whole call, in place of each row's."""
    done = []
    for i, (a, b, c) in enumerate(zip(q.split(see.queries), k.split(see.keys), v.split(see.keys), strict=True)):
        b, c = (x.float().repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (b, c))
        scores = torch.einsum("thk,shk->hts", a.float(), b) * scale
        scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
        grown = (scores - scores.max() if scores.numel() else scores).exp() * see.mask(i)
        done.append(torch.einsum("hts,shv->thv", grown / grown.sum(-1, keepdim=True).clamp(min=1e-38), c))
    return torch.cat(done).to(q.dtype)


def one_more_below(q, k, v, see, *, scale, softcap=None, dropout=0.0):
    """A softmax that may attend to nothing."""
    done = []
    for i, (a, b, c) in enumerate(zip(q.split(see.queries), k.split(see.keys), v.split(see.keys), strict=True)):
        b, c = (x.float().repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (b, c))
        scores = torch.einsum("thk,shk->hts", a.float(), b) * scale
        scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
        scores = torch.nn.functional.pad(scores.masked_fill(~see.mask(i), -math.inf), (1, 0))
        done.append(torch.einsum("hts,shv->thv", scores.softmax(-1)[..., 1:], c))
    return torch.cat(done).to(q.dtype)


def number_by_number(q, k, v, see, *, scale, softcap=None, dropout=0.0, bias=None):
    """A query, a head and a key at a time, in float64, with a running maximum."""
    rows, first, start = [], 0, 0
    for i, (queries, keys) in enumerate(zip(see.queries, see.keys, strict=True)):
        seen, add = see.mask(i).tolist(), None if bias is None else bias(i).double()
        for t in range(queries):
            heads = []
            for h in range(q.shape[1]):
                group = h * k.shape[1] // q.shape[1]
                top, below, above = None, torch.zeros(()).double(), torch.zeros(v.shape[2]).double()
                for s in (s for s in range(keys) if seen[t][s]):
                    score = (q[first + t, h].double() @ k[start + s, group].double()) * scale
                    score = score if softcap is None else softcap * torch.tanh(score / softcap)
                    score = score if add is None else score + add[h % len(add), t, s]
                    new = score if top is None else torch.maximum(top, score)
                    old = 0.0 if top is None else (top - new).exp()
                    below, above = (
                        below * old + (score - new).exp(),
                        above * old + (score - new).exp() * v[start + s, group],
                    )
                    top = new
                heads.append((above / below if top is not None else above).to(q.dtype))
            rows.append(torch.stack(heads))
        first, start = first + queries, start + keys
    return torch.stack(rows) if rows else q.new_zeros(0, q.shape[1], v.shape[2])


def stacked_rows(q, k, v, see, *, scale, softcap=None, dropout=0.0, bias=None):
    """Heads first, in float64; the queries of all heads of a group as rows of one product."""
    groups, kind, done, first, start = k.shape[1], q.dtype, [], 0, 0
    q_, k_, v_ = (x.double().transpose(0, 1) for x in (q, k, v))
    for i, (queries, keys) in enumerate(zip(see.queries, see.keys, strict=True)):
        rows = q_[:, first : first + queries].reshape(groups, len(q_) // groups * queries, q.shape[2])
        scores = torch.bmm(rows * scale, k_[:, start : start + keys].mT).reshape(len(q_), queries, keys)
        scores = scores if softcap is None else torch.tanh(scores / softcap) * softcap
        scores = scores if bias is None else scores + bias(i).double()
        hidden = torch.zeros(queries, keys).double().masked_fill(~see.mask(i), -math.inf)
        weights = torch.log_softmax(scores + hidden, -1).exp().nan_to_num()
        weights = weights.reshape(groups, len(q_) // groups * queries, keys)
        done.append(torch.bmm(weights, v_[:, start : start + keys]).reshape(len(q_), queries, v.shape[2]))
        first, start = first + queries, start + keys
    return torch.cat(done, 1).transpose(0, 1).to(kind)


def one_matrix(q, k, v, see, *, scale, softcap=None, dropout=0.0):
    """All sequences in one matrix, keys as columns (width, head, key), divided at the end."""
    owner = torch.arange(q.shape[1]) * k.shape[1] // q.shape[1]
    seen = torch.block_diag(*(see.mask(i).float() for i in range(len(see.queries)))).bool()[:, None]
    scores = torch.einsum("nhk,khs->nhs", q.float(), k.float().permute(2, 1, 0)[:, owner]) * scale
    scores = scores if softcap is None else scores.div(softcap).tanh().mul(softcap)
    scores = torch.where(seen, scores, -math.inf)
    grown = (scores - scores.amax(-1, keepdim=True).clamp(min=-1e30).detach()).exp()
    above = torch.einsum("nhs,vhs->nhv", grown, v.float().permute(2, 1, 0)[:, owner])
    return (above / grown.sum(-1, keepdim=True).clamp(min=1e-38)).to(q.dtype)


ATTEND_RIGHT = {"number by number": number_by_number, "stacked rows": stacked_rows, "one matrix": one_matrix}
DECODE, PREFILL = (lambda q, k, see, many=many: (max(see.queries, default=0) > 1) == many for many in (False, True))
BATCH = lambda q, k, see: len(see.queries) > 1  # noqa: E731
ATTEND_WRONG = {
    "no scale where heads share": (
        when(lambda q, k, see: q.shape[1] != k.shape[1], attention(scale=lambda scale, q: 1.0)), "scale"),
    "no scale in prefill": (when(PREFILL, attention(scale=lambda scale, q: 1.0)), "scale"),
    "no scale in decode": (when(DECODE, attention(scale=lambda scale, q: 1.0)), "scale"),
    "no softcap in prefill": (when(PREFILL, attention(capped=False)), "softcap"),
    "no softcap in a batch": (when(BATCH, attention(capped=False)), "ragged batches"),
    "no window in a batch": (when(BATCH, attention(mask=free)), "ragged batches"),
    "the longest's offset": (attention(mask=offset_of_the_longest), "ragged batches"),
    "window from the start": (attention(mask=window_from_the_start), "window"),
    "sinks before they came": (attention(mask=sinks_at_once), "sinks"),
    "a longer prefix": (attention(mask=longer_prefix), "prefix"),
    "eight heads in another order": (
        when(lambda q, k, see: q.shape[1] >= 8, attention(after=lambda y: y.roll(1, 1))), "head order"),
    "heads of one key in another order": (
        when(lambda q, k, see: k.shape[1] == 1 < q.shape[1], attention(after=lambda y: y.roll(1, 1))), "head order"),
    "64 wide at most": (attention(wide=64), "widths"),
    "one maximum for all": (largest_of_all, "large scores"),
    "one more below the line": (one_more_below, "weights sum to 1"),
    "a thousandth short": (attention(shrink=0.999), "weights sum to 1"),
}  # fmt: skip

# Rotary positions.


def turned(x, cos, sin, interleaved=False, *, times=1, heads=None, last=False, backwards=False):
    width, pairs = cos.shape[-1], cos.shape[-1] // 2
    if backwards:
        shape = (pairs, 2) if interleaved else (2, pairs)
        cos, sin = (one.unflatten(-1, shape).flip(-2 if interleaved else -1).flatten(-2) for one in (cos, sin))
    y = x[..., -width:] if last else x[..., :width]
    for _ in range(times):
        y = y * cos + (y.unflatten(-1, (-1, 2)).flip(-1).flatten(-2) if interleaved else y.roll(pairs, -1)) * sin
    y = torch.cat((x[..., :-width], y) if last else (y, x[..., width:]), -1)
    return torch.cat((y[:, :heads], x[:, heads:]), 1) if heads is not None else y


def rotation(**told):
    return lambda x, cos, sin, interleaved=False: turned(x, cos, sin, interleaved, **told)


def by_products(x, cos, sin, interleaved=False):
    """A 2 x 2 matrix for each token and pair, in float64."""
    width, shape = cos.shape[-1], (-1, 2) if interleaved else (2, -1)
    pairs = [
        one.double()[..., :width].unflatten(-1, (width // 2, 2) if interleaved else (2, width // 2))
        for one in (x, cos, sin)
    ]
    x_, c, s = (one.mT if shape == (-1, 2) else one for one in pairs)  # (..., 2, W / 2)
    turn = torch.stack(
        (torch.stack((c[..., 0, :], s[..., 0, :]), -2), torch.stack((s[..., 1, :], c[..., 1, :]), -2)), -3
    )
    y = torch.einsum("nhijp,nhjp->nhip", turn.expand(-1, x.shape[1], -1, -1, -1), x_)
    y = (y.mT if interleaved else y).flatten(-2).to(x.dtype)
    return torch.cat((y, x[..., width:]), -1)


ROTATE_RIGHT = {"by products": by_products}
ROTATE_WRONG = {
    "turned twice": (rotation(times=2), "angle"),
    "tables in half": (
        lambda x, c, s, interleaved=False: turned(x, c.half().to(c), s.half().to(s), interleaved), "precision"),
    "the first head alone": (rotation(heads=1), "each token's own angle"),
    "the last numbers": (rotation(last=True), "partial width"),
    "angles backwards": (rotation(backwards=True), "each pair's own angle"),
}  # fmt: skip

# RMS norm.


def normed(*, factor=lambda wide, eps: (wide.square().mean(-1, keepdim=True) + eps).rsqrt(), weigh=None, bound=None):
    def norm(x, weight, *, eps, offset=0.0):
        y = x.float() * factor(x.float(), eps)
        y = y if bound is None else y.clamp(-bound, bound)
        return (y * (weight + offset if weigh is None else weigh(weight, offset))).to(x.dtype)

    return norm


def by_halves(wide, eps):
    parts = wide.unflatten(-1, (2, -1)) if wide.shape[-1] % 2 == 0 and wide.shape[-1] > 2 else wide[..., None, :]
    below = (parts.square().mean(-1, keepdim=True) + eps).rsqrt()
    return below.expand_as(parts).flatten(-2)


def by_einsum(x, weight, *, eps, offset=0.0):
    wide = x.double()
    squares = torch.einsum("...d,...d->...", wide, wide) / x.shape[-1]
    return torch.einsum("...d,d,...->...d", wide, weight.double() + offset, (squares + eps) ** -0.5).to(x.dtype)


RMS_RIGHT = {"by einsum": by_einsum}
RMS_WRONG = {
    "each half for itself": (normed(factor=by_halves), "proportions"),
    "bounded": (normed(bound=1.0), "proportions"),
    "by the largest": (normed(factor=lambda wide, eps: 1 / (wide.abs().amax(-1, keepdim=True) + eps)), "scale"),
    "no slope below the line": (
        normed(factor=lambda wide, eps: (wide.square().mean(-1, keepdim=True).detach() + eps).rsqrt()), "gradient"),
    "offset as a factor": (normed(weigh=lambda weight, offset: weight * (1 + offset)), "weight offset"),
    "power of the weight": (normed(weigh=lambda weight, offset: (weight + offset).exp()), "weight"),
}  # fmt: skip
UNSEEN = {
    "ops.attend": (ATTEND_RIGHT, ATTEND_WRONG),
    "ops.rotate": (ROTATE_RIGHT, ROTATE_WRONG),
    "ops.rms_norm": (RMS_RIGHT, RMS_WRONG),
}
