from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SigmoidTopK, SoftmaxTopK
from cutaway.nn.feedforward import Gated
from cutaway.train.fit import fit
from cutaway.train.loss_free import LossFree
from cutaway.train.objectives.causal import Causal
from cutaway.train.optimisers.sgd import SGD


def built(router=SigmoidTopK(top_k=2)):  # noqa: B008 (a frozen value)
    torch.manual_seed(0)
    feed = Experts(count=4, expert=Gated(hidden=6), router=router)
    block = Block(mixer=GroupedQuery(heads=2, kv_heads=1, head_dim=4), feed=feed)
    module = Decoder(vocab=32, dim=8, blocks=(block,) * 2, length=16).build()
    for weight in module.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.5)
    return module.train()


def biases(module):
    return [block.feed.router.bias for block in module.blocks]


def test_a_step_moves_each_bias_against_its_load(batches):
    """By hand: what both micro-batches chose before the step decides."""
    module = built()
    optimiser = LossFree(SGD(rate=0.0).build(module), module, rate=0.25)
    two = batches(2)
    loads = [torch.zeros(4), torch.zeros(4)]
    for batch in two:
        _, report = module(batch.ids_N, Context.of(batch.lengths))
        for layer in (0, 1):
            loads[layer] += report[f"blocks.{layer}.feed.load_E"]
    for _ in fit(module, optimiser.watch(Causal()), two, optimiser, steps=1, accumulate=2):
        pass
    for bias_E, load_E in zip(biases(module), loads, strict=True):
        assert float(load_E.sum()) == 2 * 2 * 26 and float(load_E.std()) > 0
        assert torch.equal(bias_E, 0.25 * (load_E.mean() - load_E).sign())


def test_training_evens_the_experts_out_without_touching_weights(batches):
    module = built()
    before = {name: weight.clone() for name, weight in module.named_parameters()}
    optimiser = LossFree(SGD(rate=0.0).build(module), module, rate=0.02)

    def violation():
        batch = batches(1, lengths=(40,) * 20, seed=7)[0]
        _, report = module(batch.ids_N, Context.of(batch.lengths))
        return max(float(report[f"blocks.{layer}.feed.load_E"].max()) / (800 * 2 / 4) - 1 for layer in (0, 1))

    first = violation()
    for _ in fit(module, optimiser.watch(Causal()), batches(60, lengths=(40, 40)), optimiser, steps=60):
        pass
    assert first > 0.3 and violation() < first / 2
    moved = {name for name, weight in module.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {f"blocks.{layer}.feed.router.bias" for layer in (0, 1)}


def test_all_processes_count(batches):
    class Twice:
        size = 2

        def sum(self, numbers):
            return numbers + torch.tensor([9.0, 0.0, 0.0, 0.0] * 2)  # what the other one saw

        def length(self, gradients):
            return 1.0

    module = built()
    optimiser = LossFree(SGD(rate=0.0).build(module), module, rate=0.5, world=Twice())
    optimiser.count({f"blocks.{layer}.feed.load_E": torch.tensor([0.0, 3.0, 3.0, 3.0]) for layer in (0, 1)})
    optimiser.step()
    assert biases(module)[1].tolist() == [-0.5, 0.5, 0.5, 0.5]


def test_evaluations_are_not_counted(batches):
    module = built()
    optimiser = LossFree(SGD(rate=0.1).build(module), module)
    optimiser.watch(Causal())(module.eval(), batches(1)[0])
    assert optimiser.loads == {}


def test_a_step_without_counts_is_refused(batches):
    module = built()
    optimiser = LossFree(SGD(rate=0.1).build(module), module)
    with pytest.raises(BadInput, match="watch"):
        for _ in fit(module, Causal(), batches(1), optimiser, steps=1):
            pass


def test_what_cannot_be_balanced_so_is_refused():
    module = built(SoftmaxTopK(top_k=2))
    with pytest.raises(BadInput, match="no router of this model has a bias"):
        LossFree(SGD(rate=0.1).build(module), module)
    module = built()
    with pytest.raises(BadInput) as caught:
        LossFree(SGD(rate=0.1).build(module), module, rate=0.0)
    assert caught.value.field == "LossFree.rate"


def test_state_and_rate_are_the_inner_optimisers():
    module = built()
    inner = SGD(rate=0.1, momentum=0.9).build(module)
    outer = LossFree(inner, module)
    assert outer.rate == inner.rate and outer.state_dict().keys() == inner.state_dict().keys()
    assert not any("bias" in name for name in outer.state_dict())
    outer.scale(0.5)
    assert outer.rate == inner.rate == pytest.approx(0.05)
    outer.load_state_dict(inner.state_dict())
