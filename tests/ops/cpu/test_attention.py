"""Attention over a cache against the torch sibling: shapes, stores, rules of what is seen, ragged rows; laws."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.ops.cpu.attention import SPAN, Attend, Parts, Rows, attend_kernel, attend_readable, spans_for
from cutaway.ops.cpu.cache import Store
from cutaway.ops.cpu.list import Laid, Operations, address, pointer, whole
from cutaway.ops.narrow_row import encode

# Means of values of size 1, weighted by exponentials of scores of size 5: each off by 1e-6 of itself at most.
CLOSE = {"rtol": 1e-5, "atol": 3e-6}


def numbers(*shape, dtype=torch.float32):
    return torch.randn(shape).to(dtype)


def kept(dtype, *shape):
    """Random rows as a cache keeps them."""
    return encode(numbers(*shape)) if dtype == torch.int8 else numbers(*shape, dtype=dtype)


def stored(dtype, rows, kv_heads, width, value_width, starts, more=None):
    """A contiguous store, its rows head by head as nn/rows.py lays them."""
    k, v = (kept(dtype, kv_heads, rows, last).transpose(0, 1) for last in (width, value_width))
    rest = None if more is None else kept(dtype, kv_heads, rows, more).transpose(0, 1)
    return Store.contiguous(k, v, torch.tensor(starts), more=rest)


def close(q, store, rows, **told):
    found, right = attend_kernel(q, store, rows, **told), attend_readable(q, store, rows, **told)
    torch.testing.assert_close(found, right, **CLOSE)


def ragged():
    """Tokens of two prompts and single tokens of others, in one batch: slots, places."""
    slots = [0] * 13 + [1] + [2] * 3 + [3]
    places = [*range(300, 313), 511, *range(3), 255]
    return Rows(slots=torch.tensor(slots), places=torch.tensor(places))


SHAPES = [(9, 3, 64, 64), (8, 8, 32, 32), (4, 1, 128, 128), (5, 1, 16, 48), (14, 2, 80, 80), (3, 1, 256, 256)]


@pytest.mark.parametrize(("heads", "kv_heads", "width", "value_width"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8], ids=str)
def test_every_shape_and_store(kernels, heads, kv_heads, width, value_width, dtype):
    torch.manual_seed(width)
    store = stored(dtype, 1100, kv_heads, width, value_width, [0, 320, 840, 844])
    q = numbers(18, heads, width) * 2
    close(q, store, ragged(), scale=width**-0.5)
    few = Rows(slots=torch.tensor([3, 1]), places=torch.tensor([0, 511]))
    close(q[:2], store, few, scale=width**-0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8], ids=str)
@pytest.mark.parametrize(("heads", "kv_heads"), [(16, 1), (3, 3)])
def test_keys_of_which_a_part_lies_apart(kernels, dtype, heads, kv_heads):
    """Latent attention: a key is the latent and the part that turns, its value the latent."""
    torch.manual_seed(heads)
    store = stored(dtype, 1100, kv_heads, 96, 96, [0, 320, 840, 844], more=32)
    assert store.key_width == 128
    close(numbers(18, heads, 128) * 2, store, ragged(), scale=0.1)
    close(numbers(18, heads, 128) * 2, store, ragged(), scale=0.1, window=50)


@pytest.mark.parametrize("sinks", [1, 4, 20, 300])
def test_sinks_are_looked_at_from_elsewhere(kernels, sinks):
    """Scores with the first keys are those of other queries, also where these fill more than a span."""
    torch.manual_seed(sinks)
    store, q, far = stored(torch.float32, 1100, 2, 32, 32, [0, 320, 840, 844]), numbers(18, 6, 32), numbers(18, 6, 32)
    told = {"scale": 0.3, "window": 30, "sinks": sinks}
    close(q, store, replace(ragged(), far_NHK=far), **told)
    few = Rows(slots=torch.tensor([0, 1]), places=torch.tensor([310, 511]), far_NHK=far[:2])
    close(q[:2], store, few, **told)
    behind = Rows(slots=torch.tensor([0, 0]), places=torch.tensor([900, 1099]), far_NHK=far[:2])  # spans in between
    close(q[:2], store, behind, **told)
    same = attend_kernel(q, store, replace(ragged(), far_NHK=q), **told)
    assert torch.equal(same, attend_kernel(q, store, ragged(), **told))


@pytest.mark.parametrize("window", [None, 1, 100, 300])
@pytest.mark.parametrize("sinks", [0, 4])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("alibi", [False, True])
def test_every_rule(kernels, window, sinks, softcap, alibi):
    torch.manual_seed(2)
    store, q = stored(torch.float32, 1100, 2, 32, 32, [0, 320, 840, 844]), numbers(18, 6, 32) * 2
    slopes = torch.rand(6) * 0.1 if alibi else None
    close(q, store, ragged(), scale=0.3, window=window, sinks=sinks if window else 0, softcap=softcap, slopes_H=slopes)


def test_ends_of_their_own(kernels):
    """Rows that see what lies behind them (a prefix, an encoder), and one that sees nothing at all."""
    store, q = stored(torch.float32, 600, 2, 32, 32, [0]), numbers(4, 4, 32)
    rows = Rows(slots=torch.zeros(4).int(), places=torch.tensor([0, 5, 300, 2]), ends=torch.tensor([400, 400, 301, 0]))
    close(q, store, rows, scale=0.2)
    close(q, store, rows, scale=0.2, window=3)
    assert (attend_kernel(q, store, rows, scale=0.2)[3] == 0).all()
    none = Rows(slots=rows.slots[:0], places=rows.places[:0])
    assert attend_kernel(q[:0], store, none, scale=0.2).shape == (0, 4, 32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8], ids=str)
@pytest.mark.parametrize("page", [1, 7, 16, 300])
def test_pages_are_read_where_they_lie(kernels, page, dtype):
    torch.manual_seed(page)
    pages = -(-700 // page) + 3
    keys, values, more = (kept(dtype, pages, page, 2, width) for width in (48, 32, 16))
    table = torch.stack([torch.randperm(pages) for _ in range(3)])
    store = Store.paged(keys, values, table)
    rows = Rows(slots=torch.tensor([0, 1, 1, 1, 2]), places=torch.tensor([699, 0, 1, 2, 511]))
    close(numbers(5, 4, 48), store, rows, scale=0.1)
    close(numbers(5, 4, 48), store, rows, scale=0.1, window=40)
    close(numbers(5, 4, 64), Store.paged(keys, values, table, more), rows, scale=0.1)


def test_a_row_gets_the_same_alone_and_in_any_company(kernels):
    """Bit for bit: not on the number of threads, not on what else is in the batch does a result depend."""
    store, q, rows = stored(torch.float16, 1100, 3, 64, 64, [0, 320, 840, 844]), numbers(18, 9, 64), ragged()
    together = attend_kernel(q, store, rows, scale=0.125)
    threads = torch.get_num_threads()
    for row in range(0, 18, 3):
        one = Rows(slots=rows.slots[row : row + 1], places=rows.places[row : row + 1])
        alone = attend_kernel(q[row : row + 1], store, one, scale=0.125)
        assert torch.equal(alone[0], together[row])
    try:
        torch.set_num_threads(3)
        assert torch.equal(attend_kernel(q, store, rows, scale=0.125), together)
        few = Rows(slots=rows.slots[:2], places=rows.places[:2])
        assert torch.equal(attend_kernel(q[:2], store, few, scale=0.125), together[:2])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8], ids=str)
@pytest.mark.parametrize(("heads", "kv_heads", "width", "more"), [(9, 3, 64, None), (4, 4, 32, None), (16, 1, 96, 32)])
def test_many_rows_of_a_prompt_are_each_as_alone(kernels, dtype, heads, kv_heads, width, more):
    """Bit for bit, though keys and values are copied for many: rows 150 to 299 of one sequence, a window or none."""
    torch.manual_seed(heads)
    store = stored(dtype, 620, kv_heads, width, width, [0, 301], more=more)
    q, places = numbers(151, heads, store.key_width), torch.tensor([*range(150, 300), 3])
    rows = Rows(slots=torch.tensor([0] * 150 + [1]), places=places)
    for rules in ({}, {"window": 90, "sinks": 3, "softcap": 4.0}):
        together = attend_kernel(q, store, rows, scale=0.2, **rules)
        torch.testing.assert_close(together, attend_readable(q, store, rows, scale=0.2, **rules), **CLOSE)
        for row in (0, 1, 63, 64, 106, 149, 150):
            one = Rows(slots=rows.slots[row : row + 1], places=places[row : row + 1])
            assert torch.equal(attend_kernel(q[row : row + 1], store, one, scale=0.2, **rules)[0], together[row]), row
        threads = torch.get_num_threads()
        try:
            for count in (1, 2, 3, 7):  # heads that are left over are cut in rows, one part for each thread
                torch.set_num_threads(count)
                assert torch.equal(attend_kernel(q, store, rows, scale=0.2, **rules), together), count
        finally:
            torch.set_num_threads(threads)


@pytest.mark.parametrize("kv_heads", [1, 3])
def test_into_the_layout_of_a_matmul(kernels, kv_heads):
    """Heads of 16 fill half a group of 32 each: two of them share its scale."""
    torch.manual_seed(kv_heads)
    for width in (16, 48, 64):
        heads, count = 2 * kv_heads, 5
        store, q = stored(torch.float32, 600, kv_heads, width, width, [0]), numbers(count, heads, width)
        rows = Rows(slots=torch.zeros(count).int(), places=torch.arange(500, 505))
        expected = attend_readable(q, store, rows, scale=0.3).flatten(1)
        for int8 in (False, True):
            laid, cache = Laid(count, heads * width, int8=int8), store.structure()
            parts = Parts(spans_for(count, 505), count, heads, width)
            kept = whole(rows.slots), whole(rows.places), whole(rows.until)
            told = Attend(q.data_ptr(), address(cache), *map(pointer, (*kept, None, parts.sums, parts.tops, None)))
            told.tiles, told.q_row, told.count, told.heads = laid.structure, heads * width, count, heads
            told.spans, told.scale = parts.spans, 0.3
            operations = Operations()
            operations.append("attend", told)
            operations.append("attend_join", told)
            operations.run()
            assert operations.names == ("attend", "attend_join") and len(operations) == 2
            step = expected.unflatten(1, (-1, 32)).abs().amax(-1, keepdim=True) / 127 if int8 else torch.zeros(())
            near = CLOSE["atol"] + CLOSE["rtol"] * expected.unflatten(1, (-1, 32)).abs()
            assert ((laid.rows() - expected).unflatten(1, (-1, 32)).abs() <= step * 0.501 + near).all()


def test_spans_are_shared_out_only_where_rows_are_few():
    assert [spans_for(1, length) for length in (0, 1, SPAN, SPAN + 1, 2000)] == [1, 1, 1, 2, 8]
    assert spans_for(17, 2000) == 1


def test_queries_that_do_not_fit_the_store_are_refused(kernels):
    store = stored(torch.float32, 10, 3, 32, 32, [0])
    for q in (numbers(1, 4, 32), numbers(1, 3, 16)):
        with pytest.raises(BadInput, match="against keys"):
            attend_kernel(q, store, Rows(slots=torch.zeros(1), places=torch.zeros(1)), scale=1.0)
