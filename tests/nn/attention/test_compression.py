from __future__ import annotations

import torch

from cutaway.nn.attention.compression import Compression, compressed, streams, whole
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context


class Numbers(torch.nn.Module):
    """Writes down which rows a block was made of: the first row's number, and the last's."""

    def forward(self, rows_CBGK, context):
        return torch.stack([rows_CBGK[:, 0, :, 0], rows_CBGK[:, -1, :, 0]], -1)


def test_whole_blocks_are_counted_as_they_fit():
    for block, stride in ((4, 2), (3, 1), (2, 2), (6, 2)):
        for tokens in range(25):
            fit = sum(1 for first in range(0, 99, stride) if first + block <= tokens)
            assert whole(tokens, block, stride) == fit


def test_every_block_is_made_once_of_its_own_rows_however_the_tokens_come():
    """Two sequences of numbered tokens, in uneven passes: each block holds the tokens that it should."""
    block, stride = 6, 2
    cache = ContiguousCache((streams((1, 2), block, stride),), sequences=2, capacity=1, slack=0)
    ends = [0, 0]
    for counts in ((1, 5), (0, 3), (9, 1), (1, 1), (1, 0), (4, 12)):
        numbers = [100.0 * one + token for one in (0, 1) for token in range(ends[one], ends[one] + counts[one])]
        rows = torch.tensor(numbers)[:, None, None].expand(-1, 1, 2)
        context = Context.of(counts, cache=cache)
        made, told = compressed((Numbers(), Numbers()), (rows, -rows), context, block, stride)
        cache.advance(counts)
        cache.check()
        ends = [old + new for old, new in zip(ends, counts, strict=True)]
        assert told == tuple(ends)
        for sign, parts in zip((1, -1), made, strict=True):
            for one, part in enumerate(parts):
                starts = [100 * one + first for first in range(0, ends[one] - block + 1, stride)]
                assert part[:, 0].tolist() == [[sign * float(first), sign * float(first + 5)] for first in starts]


def test_places_within_a_block_tell_its_rows_apart():
    torch.manual_seed(0)
    phi = Compression(3, 4, 5)
    rows = torch.randn(1, 1, 1, 4).expand(1, 3, 1, 4)
    torch.nn.init.zeros_(phi.positions)
    plain = phi(rows, Context.of((3,)))
    torch.nn.init.normal_(phi.positions)
    assert not torch.allclose(phi(rows, Context.of((3,))), plain)
    assert plain.shape == (1, 1, 4)
