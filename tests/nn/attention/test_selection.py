"""The map between blocks is their overlap; the choice is what a sort in plain Python makes it."""

from __future__ import annotations

import pytest
import torch

from cutaway.nn.attention.selection import choose, importance

SIZES = [(32, 16, 64), (4, 2, 4), (3, 1, 3), (2, 2, 8), (6, 2, 6), (4, 1, 8), (5, 5, 5), (8, 4, 12)]


@pytest.mark.parametrize(("block", "stride", "select"), SIZES)
def test_importance_counts_what_blocks_share(block, stride, select):
    """Each compressed block alone, against tokens counted one by one; ends of the sequence included."""
    blocks = 5
    count = (blocks * select - block) // stride + 1
    found_GTJ = importance(torch.eye(count)[None], 1, blocks, block=block, stride=stride, select=select)
    for i in range(count):
        covered = set(range(i * stride, i * stride + block))
        meets = [len(covered & set(range(j * select, (j + 1) * select))) for j in range(blocks)]
        assert found_GTJ[0, i].tolist() == [tokens / stride for tokens in meets]
        for j, tokens in enumerate(meets):
            ways = [(m, n) for m in range(select // stride) for n in range(block // stride)]
            assert bool(tokens) == any(i == select // stride * j + m - n for m, n in ways)


def test_importance_sums_the_heads_of_a_group_and_no_others():
    weights_HTC = torch.zeros(4, 1, 6)
    for head in range(4):
        weights_HTC[head, 0, [head, 5]] = 10.0**head
    found_GTJ = importance(weights_HTC, 2, 6, block=1, stride=1, select=1)
    assert found_GTJ[:, 0].tolist() == [[1, 10, 0, 0, 0, 11], [0, 0, 100, 1000, 0, 1100]]


def test_a_sequence_shorter_than_its_last_block_is_padded_with_nothing():
    found_GTJ = importance(torch.ones(1, 1, 2), 1, 3, block=4, stride=2, select=4)
    assert found_GTJ.tolist() == [[[3.0, 1.0, 0.0]]]  # blocks 0..3 and 2..5 share 2, 1 strides with 0..3; 1 with 4..7
    assert importance(torch.ones(2, 3, 0), 1, 1, block=4, stride=2, select=4).tolist() == [[[0.0]] * 3]


@pytest.mark.parametrize("top_k", [3, 4, 6, 20])
def test_a_choice_is_three_blocks_and_the_most_important_others(top_k):
    make = torch.Generator().manual_seed(top_k)
    worth_GTJ = torch.randint(0, 4, (2, 30, 10), generator=make).float()  # many equals: the earlier one wins
    chosen_TGJ = choose(worth_GTJ, torch.arange(30), select=3, top_k=top_k)
    assert chosen_TGJ.shape == (30, 2, top_k)
    for place in range(30):
        own = place // 3
        for group in range(2):
            worth = worth_GTJ[group, place].tolist()
            three = {0, own, max(0, own - 1)}
            others = sorted(set(range(own + 1)) - three, key=lambda j: (-worth[j], j))
            expected = (three | set(others[: top_k - len(three)])) | ({-1} if own + 1 < top_k else set())
            assert set(chosen_TGJ[place, group].tolist()) == expected
