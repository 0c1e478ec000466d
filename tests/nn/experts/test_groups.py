from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.nn.experts.groups import Groups

#                            group 0     group 1     group 2
SCORES = torch.tensor([[0.9, 0.0, 0.5, 0.5, 0.6, 0.1], [0.1, 0.2, 0.3, 0.4, 0.0, 0.8]])


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (Groups(count=3, top_k=1), [[0], [2]]),
        (Groups(count=3, top_k=2), [[0, 2], [1, 2]]),
        (Groups(count=3, top_k=1, worth="best two"), [[1], [2]]),
        (Groups(count=3, top_k=2, worth="best two"), [[0, 1], [1, 2]]),
        (Groups(count=3, top_k=3), [[0, 1, 2], [0, 1, 2]]),
        (Groups(count=6, top_k=1), [[0], [5]]),
    ],
    ids=str,
)
def test_which_groups_a_token_may_use(groups, expected):
    size = 6 // groups.count
    allowed = groups.allowed(SCORES).tolist()
    assert allowed == [[index // size in kept for index in range(6)] for kept in expected]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"count": 0}, "count"), ({"top_k": 0}, "top_k"), ({"top_k": 4}, "top_k"), ({"worth": "mean"}, "worth")],
)
def test_impossible_groups_are_refused_naming_the_field(wrong, field):
    with pytest.raises(BadInput) as caught:
        Groups(**{"count": 3, "top_k": 2, **wrong})
    assert caught.value.field == f"Groups.{field}"


@pytest.mark.parametrize(
    ("groups", "experts", "top_k", "field"),
    [
        (Groups(count=3, top_k=2), 8, 2, "count"),
        (Groups(count=4, top_k=1, worth="best two"), 4, 1, "worth"),
        (Groups(count=4, top_k=2), 8, 5, "top_k"),
    ],
)
def test_groups_that_do_not_fit_the_experts_are_refused(groups, experts, top_k, field):
    with pytest.raises(BadInput) as caught:
        groups.check(experts, top_k)
    assert caught.value.field == f"Groups.{field}"
