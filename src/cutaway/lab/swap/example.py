"""An attention as a reader might write it: other products than ours, no softmax by name, the same answer.

The tour judges it, breaks one line of it, and lets a real model answer through it. Each kv head meets all query heads
that share it at once, so that no key is copied; the softmax is an exponential less a logarithm of a sum of them.
Read next: cli/own_part.py, lab/swap/attend.py
"""

from __future__ import annotations

import inspect

import torch


def attend(q, k, v, see, *, scale, softcap=None, dropout=0.0):
    answers = []
    parts = zip(q.split(see.queries), k.split(see.keys), v.split(see.keys), strict=True)
    for index, (q, k, v) in enumerate(parts):
        together = q.unflatten(1, (k.shape[1], -1))
        scores = scale * torch.einsum("tgrk,sgk->grts", together.float(), k.float())
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        seen = see.mask(index)
        scores = scores + torch.where(seen, 0.0, float("-inf"))
        weights = torch.exp(scores - torch.logsumexp(scores, dim=-1, keepdim=True))
        answers.append(torch.einsum("grts,sgv->tgrv", weights, v.float()).flatten(1, 2).to(q.dtype))
    return torch.cat(answers)


LINE = "seen = see.mask(index)"
BROKEN = "seen = torch.ones(len(q), len(k)).tril().bool()"
"""The triangle that every first attention has. Right while a text is read, wrong as soon as keys come from a cache."""


def written() -> str:
    """The file that a reader would hand in."""
    return f"import torch\n\n\n{inspect.getsource(attend)}"


def broken() -> str:
    """The same with one line changed."""
    return written().replace(LINE, BROKEN)
