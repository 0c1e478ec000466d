"""Contrastive search: of the likeliest tokens, the one whose meaning repeats least of what stands already.

Su et al. 2022 (arXiv 2202.06417), section 3, equation 5: with h the model's last hidden states,
  next = argmax over the k likeliest v of  (1 - a) p(v | x) - a max_j cos(h_v, h_xj)
h_v is what the model makes of v in its place, so each step runs the k candidates side by side; with a = 0 or k = 1 it
is greedy.
K candidates · T tokens so far · D model dim.   Read next: infer/prompted.py
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from cutaway.infer.beams import Beam
from cutaway.infer.prompted import Prompted
from cutaway.infer.search import Rule, goes_on, logprobs


def contrastive(
    texts: Prompted,
    ids: Sequence[int],
    *,
    top_k: int,
    alpha: float,
    most: int,
    ends: frozenset[int],
    rule: Rule | None = None,
) -> Beam:
    """What is written behind the prompt `ids`; ends with one of `ends` or at `most` tokens."""
    written = Beam()
    if most < 1:
        return written
    logits_1V = texts.start([ids], most)
    hidden_TD = F.normalize(texts.hidden_ND.float(), dim=-1)
    while True:
        logprobs_V = logprobs(logits_1V)[0]
        ruled_V = logprobs_V if rule is None else rule(logprobs_V, written.tokens)
        best = ruled_V.softmax(0).topk(min(top_k, ruled_V.shape[0]))
        tokens = best.indices[best.values > 0].tolist()
        texts.select([0] * len(tokens))
        logits_KV = texts.feed(tokens)
        hidden_KD = F.normalize(texts.hidden_ND.float(), dim=-1)
        row = chosen(best.values[: len(tokens)], hidden_KD, hidden_TD, alpha)
        logprob = float(logprobs_V[tokens[row]])
        written = written.then(tokens[row], logprob, written.total + logprob, 0)
        if not goes_on(written, most, ends):
            return written
        texts.select([row])
        logits_1V, hidden_TD = logits_KV[row : row + 1], torch.cat([hidden_TD, hidden_KD[row : row + 1]])


def chosen(probabilities_K: Tensor, hidden_KD: Tensor, hidden_TD: Tensor, alpha: float) -> int:
    """The candidate with the best score; hidden states are unit vectors."""
    repeated_K = (hidden_KD @ hidden_TD.T).amax(-1)
    return int(((1 - alpha) * probabilities_K - alpha * repeated_K).argmax())
