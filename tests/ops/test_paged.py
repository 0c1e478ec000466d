from __future__ import annotations

import numpy as np
import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.lab.checks.paged import CASES, check_paged, inputs
from cutaway.ops.attend import attend_readable
from cutaway.ops.paged import Paged, attend_paged_gathered, attend_paged_plainly, attend_paged_readable
from cutaway.ops.visible import Visible


def test_it_is_the_equation_wherever_the_pages_lie():
    check_paged(attend_paged_readable)


def told_so(form, wrong=0):
    """A form that is told where rows lie by one value, as one that is told by tensors. `wrong`: so much is added to the
    lengths."""

    def attend(q, keys, values, table, lengths, *, window, **told):
        tables, counts = tuple(table.numpy()), tuple((lengths + wrong * (lengths > 0)).tolist())
        return form(q, keys, values, Paged(tables=tables, lengths=counts, page=keys.shape[1], window=window), **told)

    return attend


@pytest.mark.parametrize("form", [attend_paged_gathered, attend_paged_plainly])
def test_so_it_is_told_by_one_value(form):
    check_paged(told_so(form))
    with pytest.raises((AssertionError, IndexError), match=r"output|out of bounds"):
        check_paged(told_so(form, wrong=-1))


def test_sequences_of_about_one_length_stand_in_one_rectangle():
    lengths = (16, 1000, 3, 0, 640, 17, 500)
    for window, expected in ((None, [[1, 4, 6], [0, 2, 5]]), (20, [[0, 1, 2, 4, 5, 6]])):
        paged = Paged(tables=(np.arange(70),) * len(lengths), lengths=lengths, page=16, window=window)
        assert [one.sequences.tolist() for one in paged.rectangles] == expected


def test_what_others_left_in_a_page_does_not_show():
    """NaN behind a sequence's end, in its own last page."""
    keys, values = (torch.full((3, 4, 1, 2), torch.nan) for _ in range(2))
    keys[2], keys[0, :2], values[2], values[0, :2] = 1.0, 2.0, 3.0, 4.0
    paged = Paged(tables=(np.array([2, 0]), np.array([0])), lengths=(6, 1), page=4)
    y = attend_paged_gathered(torch.ones(2, 1, 2), keys, values, paged, scale=0.0)
    torch.testing.assert_close(y[:, 0, 0], torch.tensor([(4 * 3.0 + 2 * 4.0) / 6, 4.0]))


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
