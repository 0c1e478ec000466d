"""Contrastive search: of the likeliest tokens, the one whose meaning repeats least of what stands already.

Su et al. 2022 (arXiv 2202.06417), section 3, equation 5: with h the model's last hidden states,
  next = argmax over the k likeliest v of  (1 - a) p(v | x) - a max_j cos(h_v, h_xj)
h_v is what the model makes of v in its place, so each step runs the k candidates side by side; with a = 0 or k = 1 it
is greedy.
K candidates · T tokens so far · D model dim.   Read next: infer/prompted.py
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from cutaway.infer.beams import Beam
from cutaway.infer.prompted import Prompted
from cutaway.infer.search import Rule, logprobs


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One step: the candidates, likeliest first, with p(v | x) and max_j cos(h_v, h_xj); `row`: the one that is taken;
    `logprob`: its own, before any rule."""

    tokens: tuple[int, ...]
    likely: tuple[float, ...]
    repeated: tuple[float, ...]
    row: int
    logprob: float


def contrastive(texts: Prompted, ids: Sequence[int], **told: Any) -> Beam:
    """What is written behind the prompt `ids`. `told` as of `contrastive_steps`."""
    written = Beam()
    for choice in contrastive_steps(texts, ids, **told):
        written = written.then(choice.tokens[choice.row], choice.logprob, written.total + choice.logprob, 0)
    return written


def contrastive_steps(
    texts: Prompted,
    ids: Sequence[int],
    *,
    top_k: int,
    alpha: float,
    most: int,
    ends: frozenset[int],
    rule: Rule | None = None,
) -> Iterator[Choice]:
    """One choice after the other; the last takes one of `ends` or is the `most`th."""
    if most < 1:
        return
    written: tuple[int, ...] = ()
    logits_1V = texts.start([ids], most)
    hidden_TD = F.normalize(texts.hidden_ND.float(), dim=-1)
    while True:
        logprobs_V = logprobs(logits_1V)[0]
        ruled_V = logprobs_V if rule is None else rule(logprobs_V, written)
        best = ruled_V.softmax(0).topk(min(top_k, ruled_V.shape[0]))
        tokens = best.indices[best.values > 0].tolist()
        texts.select([0] * len(tokens))
        logits_KV = texts.feed(tokens)
        hidden_KD = F.normalize(texts.hidden_ND.float(), dim=-1)
        likely_K, repeated_K = best.values[: len(tokens)], (hidden_KD @ hidden_TD.T).amax(-1)
        row = int(((1 - alpha) * likely_K - alpha * repeated_K).argmax())
        yield Choice(
            tokens=tuple(tokens),
            likely=tuple(likely_K.tolist()),
            repeated=tuple(repeated_K.tolist()),
            row=row,
            logprob=float(logprobs_V[tokens[row]]),
        )
        written = (*written, tokens[row])
        if len(written) == most or written[-1] in ends:
            return
        texts.select([row])
        logits_1V, hidden_TD = logits_KV[row : row + 1], torch.cat([hidden_TD, hidden_KD[row : row + 1]])
