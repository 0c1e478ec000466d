"""Two ways through what a decoder says next: the likeliest token at each step, or several beginnings at once.

B targets · V vocabulary.
Read next: infer/beams.py (which beginnings), infer/targets.py and infer/prompted.py (the model)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from cutaway.infer.beams import Beam, Beams

Rule = Callable[[Tensor, tuple[int, ...]], Tensor]  # logprobs (V,) and what was written before them


class Texts(Protocol):
    """Texts that are being written side by side: `Targets` of an encoder-decoder, `Prompted` of a decoder."""

    @property
    def never(self) -> Sequence[int]: ...
    def start(self, sources: Sequence[Sequence[int]], room: int, /) -> Tensor: ...
    def feed(self, tokens: Sequence[int], /) -> Tensor: ...
    def select(self, rows: Sequence[int], /) -> None: ...


def greedy(targets: Texts, sources: Sequence[Sequence[int]], *, most: int, ends: frozenset[int]) -> list[Beam]:
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


def beam_steps(
    texts: Texts,
    sources: Sequence[Sequence[int]],
    searches: Sequence[Beams],
    *,
    of: Sequence[int] | None = None,
    rule: Rule | None = None,
) -> Iterator[None]:
    """Runs the searches to their ends, yielding after each step; their results are in them. All run side by side, each
    as if alone.

    `of`: the source of each search, None for one search a source; the groups of a source stand in their order.
    `rule`: what becomes of the logprobs (V,) behind a beginning.
    """
    of = range(len(searches)) if of is None else of
    going = [(search, source) for search, source in zip(searches, of, strict=True) if not search.done]
    if not going:
        return
    logits_BV = texts.start(sources, max(search.most for search, _ in going))
    rows = [source for _, source in going]
    texts.select(rows)
    logits_BV = logits_BV[rows]
    while True:
        first, rows = 0, []
        counts = [len(search.running) for search, _ in going]
        for (search, _), logits_KV in zip(going, logits_BV.split(counts), strict=True):
            logprobs_KV = logprobs(logits_KV, texts.never)
            if rule is not None:
                pairs = zip(logprobs_KV, search.running, strict=True)
                logprobs_KV = torch.stack([rule(logprobs_V, beam.tokens) for logprobs_V, beam in pairs])
            search.extend(continuations(search, logprobs_KV))
            if not search.done:
                rows += [first + beam.row for beam in search.running]
            first += logits_KV.shape[0]
        yield
        going = [(search, source) for search, source in going if not search.done]
        if not going:
            return
        texts.select(rows)
        logits_BV = texts.feed([beam.tokens[-1] for search, _ in going for beam in search.running])


def beam_search(texts: Texts, sources: Sequence[Sequence[int]], searches: Sequence[Beams], **told: Any) -> None:
    """`beam_steps` to their end."""
    for _ in beam_steps(texts, sources, searches, **told):
        pass


def continuations(search: Beams, logprobs_KV: Tensor) -> list[Beam]:
    """The best continuations of the running beginnings (K of them), best first; impossible ones are none."""
    totals_K1 = logprobs_KV.new_tensor([beam.total for beam in search.running])[:, None]
    totals_KV = logprobs_KV + totals_K1
    ranked_KV = totals_KV
    if taken := search.taken():
        ids = torch.tensor(list(taken), device=totals_KV.device)
        ranked_KV = totals_KV.index_add(
            1, ids, -search.diversity * totals_KV.new_tensor([[*taken.values()]] * len(totals_KV))
        )
    best = ranked_KV.flatten().topk(min(search.looked_at, totals_KV.numel()))
    rows, tokens = best.indices // totals_KV.shape[1], best.indices % totals_KV.shape[1]
    totals, own = totals_KV[rows, tokens], logprobs_KV[rows, tokens]
    steps = zip(totals.tolist(), rows.tolist(), tokens.tolist(), own.tolist(), strict=True)
    return [
        search.running[row].then(token, logprob, total, row)
        for total, row, token, logprob in steps
        if total > -math.inf
    ]


def logprobs(logits_BV: Tensor, never: Sequence[int] = ()) -> Tensor:
    """log p (B, V). Tokens that must `never` be written come out as impossible; the others do not gain by it."""
    logprobs_BV = torch.log_softmax(logits_BV.float(), -1)
    if never:
        logprobs_BV[:, list(never)] = -torch.inf
    return logprobs_BV


def goes_on(written: Beam, most: int, ends: frozenset[int]) -> bool:
    return len(written.tokens) < most and written.tokens[-1] not in ends
