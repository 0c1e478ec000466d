from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated
from cutaway.train.cores import OnCores, cut, one_core
from cutaway.train.loss import Loss


@dataclass(frozen=True, kw_only=True)
class Next:
    splits = True

    def __call__(self, module: nn.Module, batch: Batch) -> Loss:
        logits_NV, _ = module(batch.ids_N, Context.of(batch.lengths))
        total = F.cross_entropy(logits_NV, batch.targets_N, reduction="sum")
        right = (logits_NV.detach().argmax(-1) == batch.targets_N).sum()
        return Loss(total=total, count=len(batch.ids_N), metrics={"right": right, "bits": total.detach() / 2})


def batch(lengths: tuple[int, ...]) -> Batch:
    ids, targets = torch.randint(0, 11, (2, sum(lengths)), generator=torch.Generator().manual_seed(0))
    return Batch(ids_N=ids, targets_N=targets, lengths=lengths)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    block = Block(mixer=GroupedQuery(heads=2, kv_heads=1, head_dim=4), feed=Gated(hidden=8))
    module = Decoder(vocab=11, dim=8, blocks=(block,) * 2, length=16).build().double()
    module.unused = nn.Parameter(torch.ones(2).double())
    return module


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_loss_and_gradient_are_those_of_the_whole(model, count):
    whole = batch((3, 5, 2, 6))
    expected = Next()(model, whole)
    expected.total.backward()
    wanted = {name: weight.grad for name, weight in model.named_parameters()}
    model.zero_grad()
    found = OnCores(Next(), count)(model, whole)
    # float64: the order of the sum alone differs.
    torch.testing.assert_close(found.total, expected.total, rtol=1e-12, atol=0)
    assert found.count == expected.count and int(found.metrics["right"]) == int(expected.metrics["right"])
    (3 * found.total).backward()
    for name, weight in model.named_parameters():
        if wanted[name] is None:
            assert weight.grad is None
        else:
            torch.testing.assert_close(weight.grad, 3 * wanted[name], rtol=1e-10, atol=1e-12)


def test_the_same_gradient_every_time(model):
    model, objective, one = model.float(), OnCores(Next(), 3), batch((3, 5, 2, 6, 4))
    seen = set()
    for _ in range(5):
        model.zero_grad()
        objective(model, one).total.backward()
        seen.add(
            torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
            .numpy()
            .tobytes()
        )
    assert len(seen) == 1


def test_threads_know_the_precision_and_whether_gradients_are_wanted(model):
    model, seen = model.float(), []

    @dataclass(frozen=True)
    class Look:
        splits = True

        def __call__(self, module: nn.Module, batch: Batch) -> Loss:
            seen.append((torch.is_grad_enabled(), (torch.ones(2, 2) @ torch.ones(2, 2)).dtype, torch.get_num_threads()))
            return Next()(module, batch)

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert not OnCores(Look(), 2)(model, batch((3, 3))).total.requires_grad
    OnCores(Look(), 2)(model, batch((3, 3))).total.backward()
    assert seen == [(False, torch.bfloat16, 1)] * 2 + [(True, torch.float32, 1)] * 2


def test_an_error_in_a_thread_is_raised_here(model):
    broken = Batch(ids_N=torch.tensor([1, 99]), targets_N=torch.tensor([1, 1]), lengths=(1, 1))
    with pytest.raises(IndexError):
        OnCores(Next(), 2)(model, broken)


@pytest.mark.parametrize(
    ("lengths", "count", "expected"),
    [
        ((4, 4, 4, 4), 2, [(4, 4), (4, 4)]),
        ((9, 1, 1, 1), 2, [(9,), (1, 1, 1)]),
        ((1, 1, 1, 9), 2, [(1, 1, 1), (9,)]),
        ((5,), 3, [(5,)]),
        ((1, 2), 5, [(1,), (2,)]),
    ],
)
def test_pieces_are_whole_sequences_of_about_one_size(lengths, count, expected):
    assert [piece.lengths for piece in cut(batch(lengths), count)] == expected


def test_a_piece_holds_all_that_belongs_to_its_sequences():
    source = batch((2, 1, 3))
    told = Batch(
        ids_N=torch.arange(6),
        targets_N=torch.arange(6),
        kinds_N=torch.arange(6),
        labels_B=torch.arange(3),
        prefix=(1, 0, 2),
        lengths=(1, 2, 3),
        source=source,
    )
    first, second = cut(told, 2)
    assert first.lengths == (1, 2) and second.ids_N.tolist() == second.kinds_N.tolist() == [3, 4, 5]
    assert second.labels_B.tolist() == [2] and second.prefix == (2,) and first.source.lengths == (2, 1)
    assert torch.equal(second.source.ids_N, source.ids_N[3:])


def test_what_looks_across_items_is_refused():
    class Across:
        splits = False

    with pytest.raises(BadInput, match="looks across"):
        OnCores(Across(), 2)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="at least 1"):
        OnCores(Next(), 0)


def test_one_core_for_a_while():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError), one_core():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
        with one_core(False):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
