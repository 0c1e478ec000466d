from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.infer.searches import BeamSearch, BestOf, ContrastiveSearch


@pytest.mark.parametrize(
    ("kind", "wrong", "field"),
    [
        (BeamSearch, {"width": 0}, "width"),
        (BeamSearch, {"width": 2.0}, "width"),
        (BeamSearch, {"width": 4, "groups": 3}, "groups"),
        (BeamSearch, {"diversity": 1.0}, "diversity"),
        (BeamSearch, {"groups": 2, "diversity": -1.0}, "diversity"),
        (BeamSearch, {"length_penalty": float("nan")}, "length_penalty"),
        (BeamSearch, {"early": "soon"}, "early"),
        (ContrastiveSearch, {"top_k": 0}, "top_k"),
        (ContrastiveSearch, {"alpha": 1.5}, "alpha"),
        (BestOf, {"count": True}, "count"),
    ],
)
def test_an_impossible_search_is_refused_by_name(kind, wrong, field):
    with pytest.raises(BadInput) as caught:
        kind(**wrong)
    assert caught.value.field == field
