"""Two ways through what a decoder says next: the likeliest token at each step, or several beginnings at once.

B targets · V vocabulary.   Read next: infer/beams.py (which beginnings), infer/targets.py (the model)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cutaway.infer.beams import Beam, Beams
from cutaway.infer.targets import Targets


def greedy(targets: Targets, sources: Sequence[Sequence[int]], *, most: int, ends: frozenset[int]) -> list[Beam]:
    """The likeliest token at each step, for each source; ends with one of `ends` or at `most` tokens."""
    written = [Beam() for _ in sources]
    if most < 1 or not sources:
        return written
    going = list(range(len(sources)))
    logits_BV = targets.start(sources, most)
    while True:
        logprobs_BV = logprobs(logits_BV, targets.never)
        chosen = logprobs_BV.max(-1)
        steps = zip(going, chosen.indices.tolist(), chosen.values.tolist(), strict=True)
        for one, token, logprob in steps:
            written[one] = written[one].then(token, logprob, written[one].total + logprob, one)
        rows = [row for row, one in enumerate(going) if goes_on(written[one], most, ends)]
        if not rows:
            return written
        targets.select(rows)
        going = [going[row] for row in rows]
        logits_BV = targets.feed([written[one].tokens[-1] for one in going])


def beam_search(targets: Targets, sources: Sequence[Sequence[int]], searches: Sequence[Beams]) -> list[Beam]:
    """The best target for each source, by the rules of its `Beams`. All searches run side by side, each as if alone."""
    going = [search for search in searches if not search.done]
    if not going:
        return [search.best for search in searches]
    logits_BV = targets.start(sources, max(search.most for search in searches))
    while True:
        first, rows = 0, []
        counts = [len(search.running) for search in going]
        for search, logits_KV in zip(going, logits_BV.split(counts), strict=True):
            search.extend(continuations(search, logprobs(logits_KV, targets.never)))
            if not search.done:
                rows += [first + beam.row for beam in search.running]
            first += logits_KV.shape[0]
        going = [search for search in going if not search.done]
        if not going:
            return [search.best for search in searches]
        targets.select(rows)
        logits_BV = targets.feed([beam.tokens[-1] for search in going for beam in search.running])


def continuations(search: Beams, logprobs_KV: Tensor) -> list[Beam]:
    """The best continuations of the running beginnings (K of them), best first."""
    totals_K1 = logprobs_KV.new_tensor([beam.total for beam in search.running])[:, None]
    totals_KV = logprobs_KV + totals_K1
    best = totals_KV.flatten().topk(min(search.looked_at, totals_KV.numel()))
    rows, tokens = best.indices // totals_KV.shape[1], best.indices % totals_KV.shape[1]
    own = logprobs_KV[rows, tokens]
    steps = zip(best.values.tolist(), rows.tolist(), tokens.tolist(), own.tolist(), strict=True)
    return [search.running[row].then(token, logprob, total, row) for total, row, token, logprob in steps]


def logprobs(logits_BV: Tensor, never: Sequence[int] = ()) -> Tensor:
    """log p (B, V). Tokens that must `never` be written come out as impossible; the others do not gain by it."""
    logprobs_BV = torch.log_softmax(logits_BV.float(), -1)
    if never:
        logprobs_BV[:, list(never)] = -torch.inf
    return logprobs_BV


def goes_on(written: Beam, most: int, ends: frozenset[int]) -> bool:
    return len(written.tokens) < most and written.tokens[-1] not in ends
