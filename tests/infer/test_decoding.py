from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.infer.decoding import Decoding


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": -1},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": 2.0},
        {"repetition_penalty": 0.0},
        {"stop": ("",)},
        {"stop": 5},
        {"temperature": "hot"},
        {"max_tokens": 2.5},
        {"max_tokens": None},
        {"max_tokens": True},
        {"top_p": "all"},
        {"seed": 1.5},
    ],
)
def test_an_impossible_option_is_refused_by_name(wrong):
    with pytest.raises(BadInput) as caught:
        Decoding(**wrong)
    assert caught.value.field == next(iter(wrong))


def test_one_stop_text_needs_no_list():
    assert Decoding(stop="end").stop == ("end",)
    assert Decoding(stop=["a", "b"]).stop == ("a", "b")
