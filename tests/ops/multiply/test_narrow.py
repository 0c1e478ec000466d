from __future__ import annotations

import pytest
import torch

import cutaway.ops.multiply.narrow as module
from cutaway.ops.multiply.narrow import bfloat16_pays, narrow, never, scored

FOUR_BIT = frozenset({"q4_0", "q4_1"})


@pytest.mark.parametrize("pays", [True, False])
def test_few_rows_of_4_bits_are_narrow_a_prompt_is_not_and_a_long_one_is_where_it_pays(monkeypatch, pays):
    monkeypatch.setattr(module, "bfloat16_pays", lambda: pays)
    assert narrow(1, FOUR_BIT) is narrow(16, FOUR_BIT) is torch.bfloat16
    assert narrow(17, FOUR_BIT) is narrow(127, FOUR_BIT) is None
    assert narrow(128, FOUR_BIT) is narrow(5000, FOUR_BIT | {"q8_0"}) is (torch.bfloat16 if pays else None)
    assert narrow(1, FOUR_BIT | {"q8_0"}) is None  # bytes are multiplied exactly: nothing to gain
    assert narrow(1, frozenset()) is narrow(500, frozenset()) is None
    assert never(500, FOUR_BIT) is None


def test_attention_of_a_long_prompt_multiplies_as_its_other_products_do():
    assert scored(128, torch.bfloat16, torch.float32) is torch.bfloat16
    assert scored(16, torch.bfloat16, torch.float32) is torch.float32  # few rows keep the cache's own precision
    assert scored(500, None, torch.float32) is torch.float32


def test_whether_it_pays_is_asked_once():
    assert bfloat16_pays() is bfloat16_pays()
    assert bfloat16_pays.cache_info().misses == 1
