from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SoftmaxTopK
from cutaway.nn.feedforward import Gated
from cutaway.train.fit import fit
from cutaway.train.objectives.balanced import Balanced, reported
from cutaway.train.objectives.causal import Causal
from cutaway.train.objectives.prefix import Prefix
from cutaway.train.optimisers.adamw import AdamW

EXPERTS = Experts(count=4, expert=Gated(hidden=6), router=SoftmaxTopK(top_k=1))
MIXER = GroupedQuery(heads=2, kv_heads=1, head_dim=4)


def built(feed=EXPERTS):
    torch.manual_seed(0)
    module = Decoder(vocab=32, dim=8, blocks=(Block(mixer=MIXER, feed=feed),) * 2, length=16).build().double()
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return module.train()


@pytest.mark.parametrize("objective", [Causal(), Prefix()])
def test_it_adds_the_reported_losses_for_every_item(objective, batches):
    module, (batch,) = built(), batches(1)
    batch = Batch(ids_N=batch.ids_N, lengths=batch.lengths, targets_N=batch.targets_N, prefix=(2, 2, 2))
    alone = objective(module, batch)
    told = {"prefix": batch.prefix} if isinstance(objective, Prefix) else {}
    _, report = module(batch.ids_N, Context.of(batch.lengths, **told))
    both = Balanced(objective=objective, weight=0.1, z=0.02)(module, batch)
    balance = sum(report[f"blocks.{layer}.feed.balance"] for layer in (0, 1))
    z = sum(report[f"blocks.{layer}.feed.z"] for layer in (0, 1))
    expected = alone.total + alone.count * (0.1 * balance + 0.02 * z)
    assert both.count == alone.count > 0
    torch.testing.assert_close(both.total, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(both.metrics["balance"], balance.detach() / 2 * alone.count, rtol=1e-12, atol=0)
    weights = list(module.parameters())
    # An expert that nobody chose has no gradient.
    slopes = [torch.autograd.grad(loss, weights, materialize_grads=True) for loss in (both.total, expected)]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_training_on_it_evens_the_experts_out(batches):
    module = built()
    optimiser, objective = AdamW(rate=1e-2).build(module), Balanced(objective=Causal(), weight=0.5)
    found = [step.metrics["balance"] for step in fit(module, objective, batches(60), optimiser, steps=60)]
    assert found[0] > 1.3 and found[-1] < 1.1, "1 is even, 4 is all to one"


def test_an_evaluation_is_left_as_it_is(batches):
    module, (batch,) = built().eval(), batches(1)
    loss, plain = Balanced(objective=Causal(), weight=0.5)(module, batch), Causal()(module, batch)
    assert torch.equal(loss.total, plain.total) and loss.metrics == plain.metrics


def test_a_model_without_experts_is_refused(batches):
    with pytest.raises(BadInput, match="no experts"):
        Balanced(objective=Causal())(built(Gated(hidden=6)), batches(1)[0])


@pytest.mark.parametrize("wrong", [{"weight": -0.1}, {"z": 1.0}])
def test_impossible_weights_are_refused_naming_the_field(wrong):
    with pytest.raises(BadInput) as caught:
        Balanced(objective=Causal(), **wrong)
    assert caught.value.field == f"Balanced.{next(iter(wrong))}"


def test_it_is_not_to_be_cut():
    assert not Balanced(objective=Causal()).splits


def test_reports_are_found_by_their_mixtures():
    report = {"blocks.0.feed.z": 1, "blocks.1.feed.balance": 2, "blocks.1.mixer.z": 3, "blocks.11.feed.z": 4}
    assert reported(report, "z") == {"blocks.0.feed": 1, "blocks.11.feed": 4}
