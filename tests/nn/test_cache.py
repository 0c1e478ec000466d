from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.base.errors import BadInput
from cutaway.nn.cache import CacheError, ContiguousCache
from cutaway.nn.stream import Stream

STREAMS = (Stream("all", (1,)), Stream("near", (1,), last=3), Stream("far", (1,), every=2))


def extend(cache: ContiguousCache, counts: tuple[int, ...], tokens: list[list[int]]) -> dict[str, list[list[float]]]:
    """Feeds numbered tokens as a model would; returns what each sequence may read."""
    flat = torch.tensor([[float(t)] for new in tokens for t in new]).reshape(-1, 1)
    cache.append(0, "all", flat, counts)
    cache.append(0, "near", flat, counts)
    far, fars = [], []
    for start, new in zip(cache.lengths, tokens, strict=True):
        closing = [t for place, t in enumerate(new) if (start + place + 1) % 2 == 0]
        far += closing
        fars.append(len(closing))
    cache.append(0, "far", torch.tensor(far, dtype=torch.float32).reshape(-1, 1), tuple(fars))
    read = {}
    for stream in STREAMS:
        rows, held = cache.read(0, stream.name)
        read[stream.name] = [part.flatten().tolist() for part in rows.split(held)]
    cache.advance(counts)
    cache.check()
    return read


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(st.tuples(st.integers(0, 7), st.integers(0, 7)), st.tuples(st.just("cut"), st.integers(0, 4))))
)
def test_a_cache_is_a_list_of_rows(steps):
    """Two sequences under random appends and cuts read as plain Python lists would."""
    cache = ContiguousCache((STREAMS,), sequences=2, capacity=1, slack=4)
    truth: list[list[int]] = [[], []]
    reached = [0, 0]  # the longest each was since a cut could last reach back: slack is counted from there
    token = 0
    for first, second in steps:
        if first == "cut":
            for sequence in (0, 1):
                length = max(0, len(truth[sequence]) - second)
                try:
                    cache.truncate(sequence, length)
                except CacheError:
                    assert reached[sequence] - length > 4, "a cut within the slack was refused"
                else:
                    truth[sequence] = truth[sequence][:length]
            cache.check()
            continue
        counts = (first, second)
        tokens = [list(range(token, token + n)) for n in counts]
        token += sum(counts)
        for sequence, new in enumerate(tokens):
            truth[sequence] = truth[sequence] + new
            reached[sequence] = max(reached[sequence], len(truth[sequence]))
        read = extend(cache, counts, tokens)
        for sequence, count in enumerate(counts):
            rows = [float(t) for t in truth[sequence]]
            assert read["all"][sequence] == rows
            assert read["far"][sequence] == rows[1::2]
            visible = min(len(rows), 3 - 1 + count)
            assert read["near"][sequence][-visible:] == rows[len(rows) - visible :]


def test_a_cut_beyond_the_slack_of_a_window_is_refused_and_changes_nothing():
    cache = ContiguousCache(((Stream("all", (1,)), Stream("near", (1,), last=2)),), capacity=1, slack=1)
    for token in range(40):
        for name in ("all", "near"):
            cache.append(0, name, torch.tensor([[float(token)]]), (1,))
        cache.advance((1,))
    with pytest.raises(CacheError, match="older rows are gone"):
        cache.truncate(0, 10)
    cache.check()
    assert cache.read(0, "all")[0].flatten().tolist() == [float(t) for t in range(40)]


def test_a_window_holds_bounded_memory():
    cache = ContiguousCache(((Stream("near", (4,), last=8),),), capacity=4096, slack=2)
    for _ in range(500):
        cache.append(0, "near", torch.zeros(1, 4), (1,))
        cache.advance((1,))
    assert cache._rows[0, "near"][0].buffer.shape[0] <= 2 * (8 + 2)


def test_a_mark_below_a_cut_is_void():
    cache = ContiguousCache((STREAMS,))
    extend(cache, (5,), [[0, 1, 2, 3, 4]])
    mark = cache.snapshot(0)
    cache.truncate(0, 4)
    extend(cache, (3,), [[5, 6, 7]])
    with pytest.raises(CacheError, match="void"):
        cache.restore(0, mark)


def test_a_state_cannot_be_cut_but_restored():
    cache = ContiguousCache(((Stream("state", (2,), per="sequence"),),), sequences=2)
    mark = cache.snapshot(1)
    cache.replace(0, "state", torch.ones(2, 2))
    cache.advance((1, 1))
    with pytest.raises(CacheError, match="snapshot"):
        cache.truncate(1, 0)
    cache.restore(1, mark)
    assert cache.read(0, "state")[0].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert cache.lengths == (1, 0)


def test_bytes_are_those_that_the_streams_say():
    cache = ContiguousCache((STREAMS,), slack=0, capacity=1)
    extend(cache, (3,), [[0, 1, 2]])
    assert cache.bytes == sum(stream.bytes(3) for stream in STREAMS)


def test_two_streams_of_one_name_are_refused():
    with pytest.raises(BadInput, match="one name"):
        ContiguousCache(((Stream("a", (1,)), Stream("a", (2,))),))


MEMORY = (Stream("all", (1,)), Stream("read", (2, 3), per="memory"), Stream("state", (1,), per="sequence"))


def memory(*numbers: int, rows: int = 2) -> torch.Tensor:
    """`rows` rows (S, 2, 3) for each number, filled with it."""
    return torch.cat([torch.full((rows, 2, 3), float(number)) for number in numbers] or [torch.zeros(0, 2, 3)])


def recalled(cache: ContiguousCache) -> list[list[float]]:
    rows_S, counts = cache.read(0, "read")
    return [part[:, 0, 0].tolist() for part in rows_S.split(counts)]


def test_a_memory_stays_when_tokens_are_taken_back_and_goes_where_a_mark_had_none():
    cache = ContiguousCache((MEMORY[:2],), sequences=2, slack=4)
    mark = cache.snapshot(0)
    cache.replace(0, "read", torch.cat([memory(7, rows=3), memory(8, rows=1)]), (3, 1))
    cache.append(0, "all", torch.zeros(4, 1), (2, 2))
    cache.advance((2, 2))
    cache.check()
    assert recalled(cache) == [[7.0] * 3, [8.0]]
    cache.truncate(0, 0)
    later = cache.snapshot(1)
    assert recalled(cache) == [[7.0] * 3, [8.0]]
    cache.replace(0, "read", memory(9), (0, 2))  # the first brings none: it keeps its own
    assert recalled(cache) == [[7.0] * 3, [9.0] * 2]
    cache.restore(0, mark)
    cache.restore(1, later)
    cache.check()
    assert recalled(cache) == [[], [8.0]]


def test_a_memory_lies_head_by_head_and_does_not_change_under_a_reader():
    cache = ContiguousCache((MEMORY[:2],))
    cache.replace(0, "read", memory(1), (2,))
    before, _ = cache.read(0, "read")
    assert before.transpose(0, 1).is_contiguous()
    cache.replace(0, "read", memory(2), (2,))
    assert bool((before == 1).all())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), min_size=1, max_size=6))
def test_selected_sequences_are_copies_that_go_their_own_ways(orders):
    """Against plain Python lists: beams are copied, moved and dropped, and each then takes other tokens."""
    cache = ContiguousCache((MEMORY,), sequences=3, capacity=1)
    cache.replace(0, "read", memory(10, 20, 30), (2, 2, 2))
    truth: list[tuple[list[float], float]] = [([], 10.0), ([], 20.0), ([], 30.0)]
    token = 0
    for order in orders:
        order = [one % len(truth) for one in order]
        cache.select(order)
        truth = [(list(truth[one][0]), truth[one][1]) for one in order]
        new = [float(token + place) for place in range(len(order))]
        token += len(order)
        cache.append(0, "all", torch.tensor(new)[:, None], (1,) * len(order))
        cache.replace(0, "state", torch.tensor(new)[:, None])
        for (tokens, _), one in zip(truth, new, strict=True):
            tokens.append(one)
        rows, counts = cache.read(0, "all")
        assert [part.flatten().tolist() for part in rows.split(counts)] == [tokens for tokens, _ in truth]
        assert recalled(cache) == [[number] * 2 for _, number in truth]
        cache.advance((1,) * len(order))
        assert cache.lengths == tuple(len(tokens) for tokens, _ in truth)
        cache.check()


def test_beams_of_one_source_that_change_places_move_no_memory():
    cache = ContiguousCache((MEMORY[:2],), sequences=2)
    cache.replace(0, "read", memory(1, 2), (2, 2))
    cache.select((0, 0, 1))
    held = cache.read(0, "read")[0]
    cache.select((1, 0, 2))
    assert cache.read(0, "read")[0] is held
    cache.select((2, 0, 1))
    assert recalled(cache) == [[2.0] * 2, [1.0] * 2, [1.0] * 2]


def test_bytes_count_the_memory_by_its_own_tokens():
    cache = ContiguousCache((MEMORY[:2],))
    cache.replace(0, "read", memory(1, rows=5), (5,))
    assert cache.bytes == MEMORY[1].bytes(5) == 5 * 6 * 4
