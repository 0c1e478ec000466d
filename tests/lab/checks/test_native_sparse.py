"""The loops judge: plausible mistakes are found out."""

from __future__ import annotations

import pytest
import torch

from cutaway.lab.checks.native_sparse import CASES, check_native_sparse
from cutaway.nn.attention import native_sparse
from cutaway.nn.attention.native_sparse import NativeSparseAttention


def build(spec, dim):
    return spec.build(dim)


def test_ours_holds():
    check_native_sparse(build)


class Gateless(NativeSparseAttention):
    def forward(self, x_ND, context):
        return super().forward(x_ND, context)[0] * 1.001, {}


def test_an_output_off_by_a_thousandth_is_found_out():
    with pytest.raises(AssertionError, match="output"):
        check_native_sparse(lambda spec, dim: Gateless(dim, spec), CASES[:1])


def plus(weights_HTC, groups, blocks, *, block, stride, select):
    """Equation 9 as it was first printed, read on blocks counted from 0 by where they begin: +m+n."""
    shared, parts = block // stride, select // stride
    looks_GTC = weights_HTC.unflatten(0, (groups, -1)).sum(1)
    looks_GTC = torch.nn.functional.pad(looks_GTC, (0, blocks * parts + shared))
    sums = looks_GTC.unfold(-1, shared, 1).sum(-1)[..., : blocks * parts]
    return sums.unflatten(-1, (blocks, parts)).sum(-1)


def each_head_alone(weights_HTC, groups, blocks, **sizes):
    """Only the first head of each group is asked."""
    first_GTC = weights_HTC.unflatten(0, (groups, -1))[:, 0]
    return IMPORTANCE(first_GTC, groups, blocks, **sizes)


def ends_hidden(importance_GTJ, place_T, **sizes):
    """The own block's neighbour is not always chosen."""
    return CHOOSE(importance_GTJ, place_T + sizes["select"], **sizes)


IMPORTANCE, CHOOSE = native_sparse.importance, native_sparse.choose


@pytest.mark.parametrize(
    ("name", "wrong"), [("importance", plus), ("importance", each_head_alone), ("choose", ends_hidden)]
)
def test_a_wrong_selection_is_found_out(monkeypatch, name, wrong):
    monkeypatch.setattr(native_sparse, name, wrong)
    with pytest.raises(AssertionError, match="output"):
        check_native_sparse(build, CASES[:1])
