"""Checks of how text is spoilt for a model to mend: BERT's masking and T5's spans.

`corrupt(ids_N, rule, generator)` has the signature of `train.objectives.masked.corrupt`, and gives (seen, targets);
`corrupt(ids, rule, generator)` that of `train.objectives.spans.corrupt`, and gives (source, target).
Read next: train/objectives/masked.py, train/objectives/spans.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cutaway.data.batch import IGNORE
from cutaway.lab.checks.parity import expect
from cutaway.train.objectives.masked import Masked
from cutaway.train.objectives.spans import Spans

Masking = Callable[[Tensor, Masked, torch.Generator], tuple[Tensor, Tensor]]
Cutting = Callable[[Sequence[int], Spans, torch.Generator], tuple[list[int], list[int]]]

TOKENS = 200_000
RULES = (Masked(mask=3, vocab=50, special=(0, 1, 2)), Masked(mask=25, vocab=50, special=(0, 24, 49), share=0.3))


def check_masking(corrupt: Masking) -> None:
    """Raises AssertionError, saying what, if it is not the masking of Devlin et al. 2018, appendix A.1."""
    for rule in RULES:
        ids_N = torch.randint(rule.vocab, (TOKENS,), generator=_generator(1))
        before = ids_N.clone()
        seen_N, targets_N = corrupt(ids_N, rule, _generator(0))
        expect(torch.equal(ids_N, before), "the ids themselves were changed")
        _check_places(ids_N, seen_N, targets_N, rule)
        _check_shares(ids_N, seen_N, targets_N, rule)
        again, other = corrupt(ids_N, rule, _generator(0)), corrupt(ids_N, rule, _generator(2))
        expect(torch.equal(seen_N, again[0]) and torch.equal(targets_N, again[1]), "one seed gave two answers")
        expect(not torch.equal(targets_N, other[1]), "two seeds gave one answer")


def _check_places(ids_N: Tensor, seen_N: Tensor, targets_N: Tensor, rule: Masked) -> None:
    chosen_N, never = targets_N != IGNORE, torch.tensor([rule.mask, *rule.special])
    expect(torch.equal(targets_N[chosen_N], ids_N[chosen_N]), "a target is not the token that stood there")
    expect(torch.equal(seen_N[~chosen_N], ids_N[~chosen_N]), "a token that nobody asks for was changed")
    expect(not bool((chosen_N & torch.isin(ids_N, never)).any()), "a special token was chosen")
    put_in = seen_N[chosen_N & (seen_N != ids_N) & (seen_N != rule.mask)]
    expect(not bool(torch.isin(put_in, never).any()), "a special token was put in")
    kinds = rule.vocab - len(never)
    expect(len(put_in.unique()) == kinds, f"{len(put_in.unique())} of {kinds} tokens were ever put in")


def _check_shares(ids_N: Tensor, seen_N: Tensor, targets_N: Tensor, rule: Masked) -> None:
    chosen_N, never = targets_N != IGNORE, torch.tensor([rule.mask, *rule.special])
    masked_N = chosen_N & (seen_N == rule.mask)
    changed_N = chosen_N & ~masked_N & (seen_N != ids_N)
    chosen = int(chosen_N.sum())
    _expect_share("chosen", chosen, int((~torch.isin(ids_N, never)).sum()), rule.share)
    _expect_share("masked, of those chosen,", int(masked_N.sum()), chosen, rule.masked)
    # A token drawn at random is now and then the one that stood there.
    other = 1 - 1 / (rule.vocab - len(never))
    _expect_share("swapped, of those chosen,", int(changed_N.sum()), chosen, rule.swapped * other)


def _expect_share(what: str, got: int, of: int, share: float) -> None:
    """Within five deviations of a binomial count: wrong once in two million."""
    margin = 5 * math.sqrt(share * (1 - share) / max(of, 1))
    expect(abs(got / max(of, 1) - share) <= margin, f"{got / max(of, 1):.4f} {what} not {share:.4f} +- {margin:.4f}")


def check_spans(corrupt: Cutting) -> None:
    """Raises AssertionError, saying what, if it is not the span corruption of Raffel et al. 2019, section 3.1.4."""
    for length in (2, 3, 5, 10, 37, 100, 568):
        for share, mean in ((0.15, 3.0), (0.5, 1.0), (0.15, 10.0)):
            rule = Spans(sentinel=2999, sentinels=1000, start=0, end=1, share=share, mean=mean)
            ids = list(range(1000, 1000 + length))
            answers = [corrupt(ids, rule, _generator(seed)) for seed in (0, 0, 1)]
            expect(answers[0] == answers[1], "one seed gave two answers")
            for source, target in answers:
                _check_pair(ids, source, target, rule)
    many = [corrupt(range(100), Spans(sentinel=2999), _generator(seed))[0] for seed in range(500)]
    kept = torch.zeros(100)
    for source in many:
        kept[torch.tensor([id for id in source if id < 100])] += 1
    middle = 1 - kept[20:80] / len(many)
    # A little below 0.15, since the last token always is. Five deviations of that share in 500 answers are 0.08.
    expect(float((middle - 0.15).abs().max()) < 0.08, "some places are cut out much more often than others")


def _check_pair(ids: list[int], source: list[int], target: list[int], rule: Spans) -> None:
    length = len(ids)
    noisy = min(max(round(length * rule.share), 1), length - 1)
    runs = min(max(round(noisy / rule.mean), 1), length - noisy)
    expect(source[-1:] == target[-1:] == [rule.end], "source and target end with the closing id")
    source, target = source[:-1], target[:-1]
    said = f"of {length} tokens, {noisy} in {runs} spans,"
    expect(len(source) == length - noisy + runs, f"{said} the source has {len(source)}")
    expect(len(target) == noisy + runs + 1, f"{said} the target has {len(target)}")
    marks = [rule.sentinel - number for number in range(runs + 1)]
    expect([id for id in target if id not in ids] == marks, "the target's marks are not the first ones in their order")
    expect([id for id in source if id not in ids] == marks[:-1], "the source's marks are not those of the spans")
    expect(target[-1] == marks[-1], "the last mark does not end the target")
    ends = [target.index(mark) for mark in marks]
    parts = {mark: target[a + 1 : b] for mark, a, b in zip(marks[:-1], ends[:-1], ends[1:], strict=True)}
    expect(all(parts.values()), "a mark stands for nothing")
    mended = [id for seen in source for id in parts.get(seen, [seen])]
    expect(mended == ids, "what was cut out, put back, is not the text")


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
