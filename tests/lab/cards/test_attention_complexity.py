"""The counts are those of the equations."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from cutaway.lab.cards.attention_complexity import WIDTH, cached, flops, linear


def test_the_linear_part_is_attention_with_another_kernel():
    q, k, v = (torch.randn(9, 2, 4, dtype=torch.float64) for _ in range(3))
    weights_HTS = torch.einsum("thk,shk->hts", F.elu(q) + 1, F.elu(k) + 1).tril()
    expected = torch.einsum("hts,shk->thk", weights_HTS / weights_HTS.sum(-1, keepdim=True), v)
    torch.testing.assert_close(linear(q, k, v)[0], expected)


def test_arithmetic_is_that_of_the_tiles_seen():
    column = 2 * 2 * 128 * WIDTH  # one key for a tile of queries: scores, and the weighted sum
    assert flops(512) == column * 128 * (1 + 2 + 3 + 4)
    assert flops(512, 128) == column * (128 + 3 * 255)
    assert flops(20, attend=None) == 20 * 2 * 2 * WIDTH * (WIDTH + 1)


def test_a_windows_cache_stops_growing():
    assert cached(512) == 4 * cached(128) and cached(512, 128) == cached(256, 128)
