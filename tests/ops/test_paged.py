from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.lab.checks.paged import CASES, check_paged, inputs
from cutaway.ops.attend import attend_readable
from cutaway.ops.paged import attend_paged_readable
from cutaway.ops.visible import Visible


def test_it_is_the_equation_wherever_the_pages_lie():
    check_paged(attend_paged_readable)


def test_rows_in_pages_are_rows_end_to_end():
    """A law: two sequences in pages give what they give laid end to end."""
    make = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(rows, 2, 4, generator=make) for rows in (2, 8, 8))
    pool = [tensor.view(4, 2, 2, 4) for tensor in (k, v)]
    see = Visible(queries=(1, 1), keys=(3, 4))
    flat = attend_readable(q, torch.cat((k[2:5], k[4:8])), torch.cat((v[2:5], v[4:8])), see, scale=0.5)
    table = torch.tensor([[1, 2], [2, 3]])  # page 2 is shared
    paged = attend_paged_readable(q, *pool, table, torch.tensor([3, 4]), scale=0.5)
    torch.testing.assert_close(paged, flat, rtol=0, atol=0)


def test_no_sequences_and_too_long_ones():
    q, keys, values, table, lengths = inputs(CASES[1])
    assert attend_paged_readable(q[:0], keys, values, table[:0], lengths[:0], scale=1.0).shape == (0, 4, 3)
    with pytest.raises(BadInput, match="13 tokens, its pages hold 12"):
        attend_paged_readable(q, keys, values, table, lengths + 5, scale=1.0)


def reads_one_more(q, keys, values, table, lengths, **told):
    return attend_paged_readable(q, keys, values, table, lengths + 1, **told)


def pages_in_their_order(q, keys, values, table, lengths, **told):
    return attend_paged_readable(q, keys, values, table.sort(dim=1).values, lengths, **told)


def wide_window(*given, window, **told):
    return attend_paged_readable(*given, window=None if window is None else window + 1, **told)


@pytest.mark.parametrize("wrong", [reads_one_more, pages_in_their_order, wide_window])
def test_the_check_catches_a_wrong_one(wrong):
    with pytest.raises((AssertionError, IndexError), match=r"output|out of bounds"):
        check_paged(wrong)
