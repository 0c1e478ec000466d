"""Rules on the next token that stand before any draw: what may not be said, must be said, or is said less gladly.

  bias         z[i] += bias[i]                                        OpenAI's `logit_bias`
  presence     z[i] -= a  for each i that was written                 OpenAI's API reference, "frequency and presence"
  frequency    z[i] -= b * (how often i was written)
  n-grams      z[i] = -inf  where i would end an n-gram that stands in the text   Paulus et al. 2017 (arXiv 1705.04304),
                                                                      section 2.5
  banned       z[i] = -inf  where i would end a banned sequence
  min_tokens   z[end] = -inf  until so many tokens are written
  forced       z[i] = -inf  for all others, at the beginning of the answer
  end_forced   the same for ends, at the last token that may be written
Presence and frequency count what the model wrote, not the prompt; n-grams and banned sequences look at both. The last
word is with what must be said. Each is a pure function, logits (V,) in and out; none changes what it was given.
V vocabulary.   Read next: infer/sampler.py, infer/decoding.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor

from cutaway.infer.decoding import Decoding
from cutaway.infer.request import Stuck


def ruled(logits_V: Tensor, decoding: Decoding, ids: Sequence[int], prompt: int, ends: Collection[int]) -> Tensor:
    """All rules of `decoding`. `ids`: the text so far, of which the first `prompt` were given; `ends`: end tokens."""
    if not decoding.ruled:
        return logits_V
    written = ids[prompt:]
    logits_V = biased(logits_V, decoding.logit_bias)
    logits_V = counted(logits_V, written, decoding.presence_penalty, decoding.frequency_penalty)
    if decoding.no_repeat_ngram is not None:
        logits_V = without(logits_V, closing(ids, decoding.no_repeat_ngram))
    logits_V = without(logits_V, completing(ids, decoding.banned))
    if len(written) < decoding.min_tokens:
        logits_V = without(logits_V, ends)
    if len(written) < len(decoding.forced):
        return only(logits_V, (decoding.forced[len(written)],))
    if decoding.end_forced and ends and len(written) == decoding.max_tokens - 1:
        return only(logits_V, ends)
    return logits_V


def possible(logits_V: Tensor, decoding: Decoding) -> Tensor:
    """The same logits. Raises Stuck where the rules of `decoding` leave no token."""
    if decoding.ruled and bool(logits_V.max().isneginf()):
        raise Stuck("the rules leave no token that may come")
    return logits_V


def biased(logits_V: Tensor, bias: Iterable[tuple[int, float]]) -> Tensor:
    """Adds to each token's logit what `bias` says; tokens outside the vocabulary are no one's."""
    told = {id: amount for id, amount in bias if id < logits_V.shape[0]}
    if not told:
        return logits_V
    amounts = logits_V.new_tensor(list(told.values()))
    return logits_V.index_add(0, _index(told, logits_V), amounts)


def counted(logits_V: Tensor, written: Iterable[int], presence: float, frequency: float) -> Tensor:
    """Takes `presence` off every token that was written, and `frequency` for each time it was."""
    counts = Counter(written) if presence or frequency else Counter()
    if not counts:
        return logits_V
    loss = logits_V.new_tensor([presence + frequency * count for count in counts.values()])
    return logits_V.index_add(0, _index(counts, logits_V), -loss)


def closing(ids: Sequence[int], n: int) -> set[int]:
    """The tokens that would end an n-gram that stands in `ids` already."""
    if len(ids) < n:
        return set()
    begun = tuple(ids[len(ids) - n + 1 :])
    return {ids[at + n - 1] for at in range(len(ids) - n + 1) if tuple(ids[at : at + n - 1]) == begun}


def completing(ids: Sequence[int], banned: Iterable[Sequence[int]]) -> set[int]:
    """The tokens that would complete one of the `banned` sequences."""
    return {
        sequence[-1]
        for sequence in banned
        if len(sequence) - 1 <= len(ids) and tuple(ids[len(ids) - len(sequence) + 1 :]) == tuple(sequence[:-1])
    }


def without(logits_V: Tensor, ids: Collection[int]) -> Tensor:
    """Makes these tokens impossible."""
    inside = [id for id in ids if id < logits_V.shape[0]]
    return logits_V.index_fill(0, _index(inside, logits_V), -torch.inf) if inside else logits_V


def only(logits_V: Tensor, ids: Collection[int]) -> Tensor:
    """Makes all other tokens impossible; those that were impossible before are as likely as any."""
    index = _index(ids, logits_V)
    kept = logits_V[index]
    kept = torch.where(kept.isneginf(), torch.zeros_like(kept), kept)
    return torch.full_like(logits_V, -torch.inf).index_copy(0, index, kept)


def _index(ids: Iterable[int], logits_V: Tensor) -> Tensor:
    return torch.tensor(list(ids), dtype=torch.long, device=logits_V.device)
