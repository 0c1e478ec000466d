from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.lab.checks.attend import CASES, Case, check_attend, check_half, check_large_scores
from cutaway.lab.checks.memory import kept
from cutaway.ops import tiled
from cutaway.ops.attend import attend_readable
from cutaway.ops.tiled import OnlineSoftmax, Tiles, attend_in, attend_tiled
from cutaway.ops.visible import Visible

SINKS = (
    Case(see=Visible(queries=(9,), keys=(9,), window=2, sinks=3), heads=4, groups=2),
    Case(see=Visible(queries=(2, 7), keys=(8, 7), window=1, sinks=2)),
)


@pytest.mark.parametrize("sizes", [(1, 1), (2, 3), (3, 2), (128, 128)], ids=str)
def test_it_is_the_equation_forward_and_gradient(sizes):
    check_attend(partial(attend_in, Tiles(queries=sizes[0], keys=sizes[1])), CASES + SINKS)


def test_the_form_that_runs_is_the_equation():
    check_attend(attend_tiled)
    check_large_scores(attend_tiled)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    check_half(attend_tiled, dtype)


@pytest.mark.parametrize("lengths", [((131,), (131,)), ((37, 1, 300), (37, 263, 301))], ids=str)
@pytest.mark.parametrize("rule", [{}, {"window": 50}, {"window": 20, "sinks": 5}, {"prefix": (33, 7, 200)}], ids=str)
def test_it_equals_the_naive_form_at_odd_lengths(lengths, rule):
    """Float64, forward and gradient: sums of 300 terms in another order move the last few of 53 bits."""
    make = torch.Generator().manual_seed(0)
    if "prefix" in rule:
        rule = {"prefix": rule["prefix"][: len(lengths[0])]}
    see = Visible(queries=lengths[0], keys=lengths[1], **rule)
    shapes = ((sum(lengths[0]), 4, 8), (sum(lengths[1]), 2, 8), (sum(lengths[1]), 2, 6))
    given = [torch.randn(shape, generator=make, dtype=torch.float64, requires_grad=True) for shape in shapes]
    results = []
    for attend in (partial(attend_in, Tiles(queries=33, keys=47)), attend_readable):
        y_NHK = attend(*given, see, scale=0.4, softcap=5.0)
        results.append([y_NHK, *torch.autograd.grad(y_NHK.sin().sum(), given)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_a_bias_takes_its_gradient():
    make = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(6, 2, 4, generator=make, dtype=torch.float64) for _ in range(3))
    bias_HTS = torch.randn(2, 3, 3, generator=make, dtype=torch.float64, requires_grad=True)
    see = Visible(queries=(3, 3), keys=(3, 3))
    tiles = Tiles(queries=2, keys=2)
    assert torch.autograd.gradcheck(
        lambda bias: attend_in(tiles, q, k, v, see, scale=0.5, softcap=2.0, bias=lambda index: bias), bias_HTS
    )


def test_under_autocast_the_sums_are_in_float32():
    see = Visible(queries=(9,), keys=(9,))
    given = [torch.randn(9, 2, 16, requires_grad=True) for _ in range(3)]
    plain = attend_tiled(*given, see, scale=0.25)
    with torch.autocast("cpu", torch.bfloat16):
        y_NHK = attend_tiled(*given, see, scale=0.25)
        slopes = torch.autograd.grad(y_NHK.sum(), given)
    torch.testing.assert_close(y_NHK, plain, rtol=0, atol=0)
    for ours, theirs in zip(slopes, torch.autograd.grad(plain.sum(), given), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_what_is_kept_grows_as_the_tokens_and_not_as_their_pairs():
    """Four times the tokens: exactly four times as much kept by tiles, 12 to 16 times by the naive form. The largest
    tensor made on the way, backwards too, is one of the inputs' size: no tile grows."""
    few, many = (kept(partial(attend_in, Tiles(queries=32, keys=32)), tokens) for tokens in (64, 256))
    assert many.saved == 4 * few.saved and many.largest <= 4 * few.largest
    naive_few, naive_many = (kept(attend_readable, tokens) for tokens in (64, 256))
    assert naive_many.saved > 12 * naive_few.saved
    assert naive_many.largest == 16 * naive_few.largest
    assert many.saved * 5 < naive_many.saved


def test_tiles_in_which_nothing_is_seen_are_skipped(monkeypatch):
    run = []
    real = tiled.Rule.scores

    def counting(self, q, k, bias, queries, keys):
        run.append(bool(self.see.tile(self.index, queries, keys).any()))
        return real(self, q, k, bias, queries, keys)

    monkeypatch.setattr(tiled.Rule, "scores", counting)
    q, k, v = (torch.randn(64, 1, 4) for _ in range(3))
    for rule, tiles in (({}, 36), ({"causal": False}, 64), ({"window": 8}, 15), ({"window": 8, "sinks": 2}, 22)):
        run.clear()
        see = Visible(queries=(64,), keys=(64,), **rule)
        attend_in(Tiles(queries=8, keys=8), q, k, v, see, scale=1.0)
        # A window of 8 reaches into one tile to the left; sinks add the first to the six rows that begin right of it.
        assert len(run) == tiles and all(run), rule


def test_the_recurrence_does_not_depend_on_how_the_scores_come():
    scores, values = torch.randn(1, 1, 3, 10, dtype=torch.float64) * 50, torch.randn(1, 1, 10, 4, dtype=torch.float64)
    for sizes in ([10], [1] * 10, [3, 7]):
        softmax = OnlineSoftmax(scores[..., :4], 4)
        for part, value in zip(scores.split(sizes, -1), values.split(sizes, -2), strict=True):
            softmax.take(part, value)
        mean, lse = softmax.result()
        torch.testing.assert_close(mean, scores.softmax(-1) @ values, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(lse[..., 0], scores.logsumexp(-1), rtol=1e-12, atol=1e-12)


def test_nothing_in_nothing_out():
    for keys in (0, 2):
        see = Visible(queries=(0,), keys=(keys,))
        y = attend_tiled(torch.zeros(0, 2, 4), torch.zeros(keys, 1, 4), torch.zeros(keys, 1, 3), see, scale=1.0)
        assert y.shape == (0, 2, 3)
    assert attend_tiled(*torch.zeros(3, 0, 1, 4), Visible(queries=(), keys=()), scale=1.0).shape == (0, 1, 4)


def test_dropout_and_impossible_tiles_are_refused():
    with pytest.raises(BadInput, match="dropout"):
        attend_tiled(*torch.zeros(3, 1, 1, 4), Visible(queries=(1,), keys=(1,)), scale=1.0, dropout=0.1)
    with pytest.raises(BadInput, match=r"Tiles\.keys"):
        Tiles(keys=0)


def forgets_to_shrink(self, scores, values):
    top = torch.maximum(self.top, scores.amax(-1, keepdim=True))
    weights = torch.exp(scores - top)
    self.total, self.summed, self.top = self.total + weights.sum(-1, keepdim=True), self.summed + weights @ values, top


def test_the_check_catches_a_recurrence_that_does_not_shrink(monkeypatch):
    monkeypatch.setattr(OnlineSoftmax, "take", forgets_to_shrink)
    with pytest.raises(AssertionError):
        check_attend(partial(attend_in, Tiles(queries=2, keys=2)))


def test_the_check_catches_a_skipped_tile(monkeypatch):
    real = Visible.reach
    monkeypatch.setattr(Visible, "reach", lambda see, *given: real(replace(see, prefix=None), *given))
    with pytest.raises(AssertionError):
        check_attend(partial(attend_in, Tiles(queries=2, keys=2)))
