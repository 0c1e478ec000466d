from __future__ import annotations

import pytest
import torch

from cutaway.lab.measure import best, buffer_size, copy_bandwidth, matmul_rate, read_bandwidth


def test_the_buffer_is_beyond_the_cache_and_within_memory():
    assert buffer_size(None, None) == 256 << 20
    assert buffer_size(32 << 20, None) == 128 << 20
    assert buffer_size(1 << 20, None) == 64 << 20
    assert buffer_size(1 << 30, None) == 512 << 20
    assert buffer_size(None, 256 << 20) == 32 << 20


def test_the_best_is_one_of_the_runs_and_the_first_is_not_counted():
    calls = []
    assert 0 < best(lambda: calls.append(1), seconds=0) < 1
    assert len(calls) == 2


def test_rates_are_positive():
    size = 1 << 20
    assert read_bandwidth(size, 0) > 0 and copy_bandwidth(size, 0) > 0
    assert (matmul_rate(torch.float32, 0, side=64) or 0) > 0


def test_a_type_that_cannot_be_multiplied_is_none():
    assert matmul_rate(torch.bool, 0, side=8) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8])
def test_other_types_give_a_rate_or_none(dtype):
    rate = matmul_rate(dtype, 0, side=64)
    assert rate is None or rate > 0
