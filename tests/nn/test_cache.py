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
