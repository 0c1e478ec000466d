"""The checks find every deliberately wrong corruption, and pass ours."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutaway.data.batch import IGNORE
from cutaway.lab.checks.corruption import check_masking, check_spans
from cutaway.train.objectives import masked, spans


def test_ours_pass():
    check_masking(masked.corrupt)
    check_spans(spans.corrupt)


def all_masked(ids_N, rule, generator):
    return masked.corrupt(ids_N, replace(rule, masked=1.0, swapped=0.0), generator)


def half_as_often(ids_N, rule, generator):
    return masked.corrupt(ids_N, replace(rule, share=rule.share / 2), generator)


def special_too(ids_N, rule, generator):
    return masked.corrupt(ids_N, replace(rule, special=()), generator)


def in_place(ids_N, rule, generator):
    seen_N, targets_N = masked.corrupt(ids_N, rule, generator)
    ids_N.copy_(seen_N)
    return ids_N, targets_N


def asks_for_all(ids_N, rule, generator):
    return masked.corrupt(ids_N, rule, generator)[0], ids_N.clone()


def asks_for_what_is_seen(ids_N, rule, generator):
    seen_N, targets_N = masked.corrupt(ids_N, rule, generator)
    return seen_N, torch.where(targets_N == IGNORE, IGNORE, seen_N)


def deaf(ids_N, rule, generator):
    return masked.corrupt(ids_N, rule, torch.Generator().manual_seed(7))


def restless(ids_N, rule, generator):
    return masked.corrupt(ids_N, rule)


@pytest.mark.parametrize(
    "wrong",
    [all_masked, half_as_often, special_too, in_place, asks_for_all, asks_for_what_is_seen, deaf, restless],
)
def test_a_wrong_masking_is_found(wrong):
    with pytest.raises(AssertionError):
        check_masking(wrong)


def without_last_mark(ids, rule, generator):
    source, target = spans.corrupt(ids, rule, generator)
    return source, target[:-2] + target[-1:]


def without_end(ids, rule, generator):
    return spans.corrupt(ids, replace(rule, end=None), generator)


def marks_upwards(ids, rule, generator):
    def up(side):
        return [2 * rule.sentinel - id if id > 2000 else id for id in side]

    source, target = spans.corrupt(ids, rule, generator)
    return up(source), up(target)


def longer_spans(ids, rule, generator):
    return spans.corrupt(ids, replace(rule, mean=2 * rule.mean), generator)


def at_the_end(ids, rule, generator):
    noisy, _ = spans.counts(len(ids), rule.share, rule.mean)
    source, target = spans.cut(ids, [place >= len(ids) - noisy for place in range(len(ids))], rule.sentinel, 1000)
    closing = [] if rule.end is None else [rule.end]
    return source + closing, target + closing


def out_of_order(ids, rule, generator):
    source, target = spans.corrupt(ids, rule, generator)
    return source, [*target[:1], *reversed(target[1:-2]), *target[-2:]]


def unseeded(ids, rule, generator):
    return spans.corrupt(ids, rule)


@pytest.mark.parametrize(
    "wrong", [without_last_mark, without_end, marks_upwards, longer_spans, at_the_end, out_of_order, unseeded]
)
def test_wrong_spans_are_found(wrong):
    with pytest.raises(AssertionError):
        check_spans(wrong)
