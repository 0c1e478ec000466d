from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="the extra triton is not installed")

from cutaway.base.errors import BadInput
from cutaway.lab.checks.paged import CASES, check_paged, inputs
from cutaway.ops.triton.paged import attend_paged


def on(device, implementation):
    def there(*given, **told):
        return implementation(*(tensor.to(device) for tensor in given), **told).to(given[0].device)

    return there


def test_it_is_the_equation_where_the_pages_lie(device):
    check_paged(on(device, attend_paged), CASES[1:8:3])


@pytest.mark.proof
def test_every_case(device):
    check_paged(on(device, attend_paged))


def test_what_it_cannot_do_is_refused(device):
    q, keys, values, table, lengths = (tensor.to(device) for tensor in inputs(CASES[1]))
    with pytest.raises(BadInput, match="no backward pass"):
        attend_paged(q.requires_grad_(), keys, values, table, lengths, scale=1.0)
    with torch.no_grad(), pytest.raises(BadInput, match="in one piece"):
        attend_paged(q, keys[..., :2], values, table, lengths, scale=1.0)
    with torch.no_grad(), pytest.raises(BadInput, match="260 numbers"):
        attend_paged(torch.zeros(1, 4, 260, device=device), keys, values, table, lengths, scale=1.0)


FAULTS = [
    ("paged", "total_R * shrink_R +", "total_R +"),
    (
        "paged",
        "(sequence * groups + group) * SHARING + share_R",
        "sequence * groups * SHARING + share_R * groups + group",
    ),
    (
        "paged",
        "page * PAGE + place_C, inside_C, group, groups, V",
        "number * PAGE + place_C, inside_C, group, groups, V",
    ),
    ("paged", "(inside_C & (key_C >= first))", "(inside_C & (key_C >= 0))"),
    ("paged", "range(first // PAGE,", "range(first // PAGE + 1,"),
    ("paged", "tl.maximum(length - WINDOW, 0)", "tl.maximum(length - WINDOW - 1, 0)"),
    ("scores", "scores_TS = share_TS * SOFTCAP", "scores_TS = share_TS"),
]


@pytest.mark.proof
@pytest.mark.parametrize(("file", "right", "wrong"), FAULTS, ids=lambda text: text[:40])
def test_the_checks_catch_a_kernel_with_a_fault(device, spoilt, file, right, wrong):
    attend = spoilt(file, right, wrong)("paged").attend_paged
    with pytest.raises(AssertionError, match="output"):
        check_paged(on(device, attend), (CASES[8], *CASES[2:8]))
