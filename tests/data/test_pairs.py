from __future__ import annotations

from itertools import islice

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.data.batch import IGNORE, Batch
from cutaway.data.pairs import Examples, joined, labelled, pair, tagged


def make(number: int) -> Batch:
    return pair([number, number + 1], list(range(number % 3)), begin=98, end=99)


def test_a_decoder_reads_what_it_has_said_and_begins_with_begin():
    batch = pair([5, 6, 7], [1, 2], begin=0, end=9)
    assert batch.ids_N.tolist() == [0, 1, 2] and batch.targets_N.tolist() == [1, 2, 9]
    assert batch.source is not None and batch.source.ids_N.tolist() == [5, 6, 7] and batch.tokens == 6
    assert pair([5], [], begin=0, end=9).targets_N.tolist() == [9]
    with pytest.raises(BadInput, match="source"):
        pair([], [1], begin=0, end=9)


def test_joined_examples_lie_end_to_end():
    batch = joined([make(1), make(2), make(3)])
    assert batch.lengths == (2, 3, 1) and batch.ids_N.tolist() == [98, 0, 98, 0, 1, 98]
    assert batch.targets_N.tolist() == [0, 99, 0, 1, 99, 99]
    assert batch.source is not None and batch.source.lengths == (2, 2, 2)
    assert batch.source.ids_N.tolist() == [1, 2, 2, 3, 3, 4]
    both = joined([labelled([1, 2], 3, kinds=[0, 1]), labelled([4], 1, kinds=[0])])
    assert both.labels_B.tolist() == [3, 1] and both.kinds_N.tolist() == [0, 1, 0] and both.lengths == (2, 1)
    assert both.ids_N.dtype == both.labels_B.dtype == torch.int64
    tags = joined([tagged([1, 2], [IGNORE, 0]), tagged([3], [1])])
    assert tags.targets_N.tolist() == [IGNORE, 0, 1]
    prefixed = joined([Batch(ids_N=torch.tensor([1, 2]), lengths=(2,), prefix=(1,))] * 2)
    assert prefixed.prefix == (1, 1)


def test_what_some_lack_is_named():
    with pytest.raises(BadInput, match=r"Batch.labels_B: some of the examples have it"):
        joined([labelled([1], 0), Batch(ids_N=torch.tensor([1]), lengths=(1,))])
    with pytest.raises(BadInput, match="nothing to join"):
        joined([])
    with pytest.raises(BadInput, match="a sentence must have a token"):
        labelled([], 0)


def examples(**told) -> Examples:
    return Examples(lambda number: labelled([number, 7], number), 11, **{"rows": 3, "seed": 2, **told})


def labels(batches) -> list[int]:
    return [label for batch in batches for label in batch.labels_B.tolist()]


def test_each_example_comes_once_an_epoch_in_another_order():
    seen = labels(examples(epochs=2))
    assert sorted(seen[:11]) == sorted(seen[11:]) == list(range(11)) and seen[:11] != seen[11:]
    assert seen != labels(examples(epochs=2, seed=3))
    assert [len(batch.lengths) for batch in examples(epochs=1)] == [3, 3, 3, 2]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_machines_share_what_one_would_take(world):
    whole = labels(examples(rows=6 // world * world, epochs=2))
    parts = [[batch.labels_B.tolist() for batch in examples(rows=6 // world, epochs=2, rank=rank, world=world)]
             for rank in range(world)]  # fmt: skip
    together: list[int] = []
    for step in range(max(map(len, parts))):
        together += [label for part in parts if step < len(part) for label in part[step]]
    assert together == whole


def test_going_on_from_any_point_is_the_same_as_never_stopping():
    whole = [batch.labels_B.tolist() for batch in islice(examples(), 9)]
    for stop in range(9):
        first, second = examples(), examples()
        list(islice(first, stop))
        second.restore(first.state())
        assert [batch.labels_B.tolist() for batch in islice(second, 9 - stop)] == whole[stop:]


def test_what_cannot_be_is_refused():
    with pytest.raises(BadInput, match="there is no example"):
        Examples(make, 0, rows=1)
    with pytest.raises(BadInput, match="rows and epochs"):
        examples(rows=0)
    with pytest.raises(BadInput, match="machine 2 is not one of 2"):
        examples(rank=2, world=2)
    with pytest.raises(BadInput, match="count: the state was saved with 10, here it is 11"):
        examples().restore({**examples().state(), "count": 10})
    with pytest.raises(BadInput, match="taken: must be a whole number"):
        examples().restore({**examples().state(), "taken": -3})
