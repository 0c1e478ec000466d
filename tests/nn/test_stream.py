from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.nn.stream import Stream


def test_rows_and_bytes():
    assert Stream("k", (2, 8)).bytes(10) == 10 * 16 * 4
    assert Stream("k", (2, 8)).bytes(10, torch.bfloat16) == 10 * 16 * 2
    assert Stream("k", (8,), dtype=torch.int8, every=4).bytes(11) == 2 * 8
    assert Stream("k", (8,), last=3).rows(10) == 3
    assert Stream("h", (8,), per="sequence").rows(10) == 1
    assert Stream("m", (8,), per="memory").rows(10) == 10
    wide = Stream("s", (8,), per="sequence", wide=True)
    assert [wide.held_in(one) for one in (torch.bfloat16, torch.float64)] == [torch.float32, torch.float64]
    assert wide.bytes(10, torch.bfloat16) == 8 * 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"every": 0},
        {"last": 0},
        {"shape": (0,)},
        {"per": "sequence", "last": 2},
        {"per": "memory", "every": 2},
        {"wide": True, "dtype": torch.int8},
    ],
)
def test_an_impossible_stream_is_refused(wrong):
    with pytest.raises(BadInput):
        Stream(**{"name": "k", "shape": (1,), **wrong})
