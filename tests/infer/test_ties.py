"""Near ties: where texts part, and what bounds the gap there."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from cutaway.infer.ties import lead, parted, spread

LOGITS = st.lists(st.floats(-9, 9, width=32), min_size=4, max_size=4).map(torch.tensor)


def test_the_first_place_that_differs():
    assert parted([1, 2, 3], [1, 4, 3]) == 1
    assert parted([1, 2], [1, 2, 3]) is parted([], [5]) is None


@given(alone=LOGITS, other=LOGITS)
def test_no_answer_parts_where_the_lead_is_above_the_spread(alone, other):
    token = int(other.argmax())
    assert lead(alone, token) <= spread(alone, other) + 1e-5  # float32
    assert lead(alone, int(alone.argmax())) == 0.0
    assert spread(alone, alone + 3.0) < 1e-5, "what moves all logits alike moves no gap"
