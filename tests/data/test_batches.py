from __future__ import annotations

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutaway.base.errors import BadInput
from cutaway.data.batch import IGNORE, Batch
from cutaway.data.batches import Batches, Evaluation, flat, padded, padded_targets
from cutaway.data.documents import Held
from cutaway.data.packing import Fitted, Streamed, Windows
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope

DOCUMENTS = Held([range(100 * at, 100 * at + size) for at, size in enumerate([5, 1, 9, 0, 4, 7, 3, 12])])


def sequences(batch: Batch) -> list[tuple[list[int], list[int]]]:
    assert batch.targets_N is not None
    ids, targets = batch.ids_N.split(batch.lengths), batch.targets_N.split(batch.lengths)
    return [(one.tolist(), other.tolist()) for one, other in zip(ids, targets, strict=True)]


def same(one: Batch, other: Batch) -> bool:
    return sequences(one) == sequences(other)


@pytest.mark.parametrize("order", [Streamed, Fitted])
@pytest.mark.parametrize("end", [None, 7777])
def test_targets_are_the_next_tokens_of_the_same_document(order, end):
    predicted: list[int] = []
    for batch in Batches(order(DOCUMENTS, length=4, seed=2, epochs=1), count=2, end=end):
        for ids, targets in sequences(batch):
            document, last = divmod(ids[-1], 100)
            closing = last == DOCUMENTS.lengths[document] - 1
            assert ids == list(range(ids[0], ids[0] + len(ids))), "one document, in order"
            assert targets == [*(token + 1 for token in ids[:-1]), (end or IGNORE) if closing else ids[-1] + 1]
            predicted += [target for target in targets if target not in (IGNORE, 7777)]
    firsts = {100 * at for at in range(8)}
    assert sorted(predicted) == [token for token in sorted(DOCUMENTS.stretch(0, 99)) if token not in firsts]


def test_rows_have_their_length():
    batch = next(iter(Batches(Streamed(DOCUMENTS, length=6), count=3)))
    assert len(batch.ids_N) == 18 and batch.ids_N.dtype == torch.int64 == batch.targets_N.dtype


@given(st.integers(1, 3), st.integers(1, 4), st.sampled_from([Streamed, Fitted]))
def test_machines_share_the_rows_that_one_would_take(count, world, order):
    alone = Batches(order(DOCUMENTS, length=4, seed=3, epochs=2), count=count * world)
    shares = [
        Batches(order(DOCUMENTS, length=4, seed=3, epochs=2), count=count, rank=rank, world=world)
        for rank in range(world)
    ]
    streams = [iter(share) for share in shares]
    for batch in alone:
        parts = [sequences(part) for stream in streams if (part := next(stream, None)) is not None]
        assert [sequence for part in parts for sequence in part] == sequences(batch)
    assert all(next(stream, None) is None for stream in streams)
    assert all(share.state() == alone.state() for share in shares)


def test_a_state_goes_on_with_another_number_of_machines():
    alone = Batches(Streamed(DOCUMENTS, length=4, seed=3), count=4)
    batches = list(islice(alone, 6))
    alone.restore({**alone.state(), "epoch": 0, "place": 0, "offset": 0})
    list(islice(alone, 2))
    half = Batches(Streamed(DOCUMENTS, length=4, seed=3), count=2, rank=1, world=2)
    half.restore(alone.state())
    for batch, part in zip(batches[2:], islice(half, 4), strict=True):
        assert sequences(part) == sequences(batch)[-len(part.lengths) :]


@pytest.mark.parametrize("order", [Streamed, Fitted, Windows])
def test_going_on_from_any_point_is_the_same_as_never_stopping(order):
    whole = list(islice(Batches(order(DOCUMENTS, length=5, seed=4), count=2), 14))
    for stop in range(14):
        first, second = (Batches(order(DOCUMENTS, length=5, seed=4), count=2) for _ in range(2))
        list(islice(first, stop))
        second.restore(first.state())
        assert all(map(same, islice(second, 14 - stop), whole[stop:]))


def test_leaving_the_loop_and_coming_back_goes_on():
    whole = list(islice(Batches(Streamed(DOCUMENTS, length=5), count=2), 6))
    batches = Batches(Streamed(DOCUMENTS, length=5), count=2)
    parts = [batch for _ in range(3) for batch in islice(batches, 2)]
    assert all(map(same, parts, whole))


@given(st.integers(1, 9), st.integers(1, 5))
def test_evaluation_asks_for_every_token_but_the_first_and_can_be_repeated(length, count):
    evaluation = Evaluation(DOCUMENTS, length=length, count=count)
    for _ in range(2):
        batches = list(evaluation)
        assert len(batches) == len(evaluation)
        asked = [target for batch in batches for _, targets in sequences(batch) for target in targets]
        assert asked == DOCUMENTS.stretch(1, 99).tolist()


TINY = Decoder(
    vocab=32,
    dim=16,
    length=64,
    norm=RMSNorm(),
    blocks=(Block(mixer=GroupedQuery(heads=2, kv_heads=1, head_dim=8, rope=Rope(width=8)), feed=Gated(hidden=24)),) * 2,
)


@pytest.mark.parametrize("order", [Streamed, Fitted])
def test_in_a_packed_row_each_document_is_read_as_if_it_were_alone(order):
    torch.manual_seed(0)
    model = TINY.build().double().eval()
    documents = Held([torch.randint(32, (size,)).numpy() for size in (5, 1, 9, 4, 7, 3, 12)])
    batch = next(iter(Batches(order(documents, length=16, seed=1), count=2)))
    assert len(batch.lengths) > 2, "several documents in a row"
    with torch.no_grad():
        packed = model(batch.ids_N, Context.of(batch.lengths))[0].split(batch.lengths)
        for ids, together in zip(batch.ids_N.split(batch.lengths), packed, strict=True):
            alone = model(ids, Context.of((len(ids),)))[0]
            # float64 sums in another order
            torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)


def test_padded_is_a_rectangle_and_flat_its_inverse():
    batch = Batch(
        ids_N=torch.tensor([1, 2, 3, 4, 5, 6]), targets_N=torch.tensor([2, 3, IGNORE, 5, 6, 7]), lengths=(3, 1, 2)
    )
    ids_BT, mask_BT = padded(batch, pad=9)
    assert ids_BT.tolist() == [[1, 2, 3], [4, 9, 9], [5, 6, 9]]
    assert mask_BT.tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    targets_BT = padded_targets(batch)
    assert targets_BT.tolist() == [[2, 3, IGNORE], [5, IGNORE, IGNORE], [6, 7, IGNORE]]
    again = flat(ids_BT, mask_BT, targets_BT)
    assert same(again, batch) and again.lengths == batch.lengths
    assert padded(batch, length=5)[0].shape == (3, 5) == padded_targets(batch, length=5).shape
    left = flat(torch.tensor([[0, 1], [2, 3]]), torch.tensor([[0, 1], [1, 1]]))
    assert left.ids_N.tolist() == [1, 2, 3] and left.lengths == (1, 2) and left.targets_N is None


def test_what_cannot_be_is_refused():
    rows = Streamed(DOCUMENTS, length=4)
    with pytest.raises(BadInput, match="count: a batch has at least 1 row"):
        Batches(rows, count=0)
    with pytest.raises(BadInput, match="rank: machine 2 is not one of 2"):
        Batches(rows, count=1, rank=2, world=2)
    batch = Batch(ids_N=torch.tensor([1, 2]), lengths=(2,))
    with pytest.raises(BadInput, match="length: a sequence has 2 tokens, the rectangle 1"):
        padded(batch, length=1)
    with pytest.raises(BadInput, match="no targets"):
        padded_targets(batch)
    with pytest.raises(BadInput, match="different shapes"):
        flat(torch.zeros(2, 2), torch.ones(2, 3))
