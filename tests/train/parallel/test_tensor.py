"""Tensor parallel, alone and together with sharding: gradients and steps are those of one process."""

from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.train.fit import fit
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.parallel.fleet import Layout
from cutaway.train.parallel.shard import shard
from cutaway.train.parallel.tensor import _check, split_tensors
from cutaway.train.shards import whole

from .models import Still, batch, decoder, joined, near, next_token, taught

BATCHES = [batch(1), batch(3, (9,))]


def result(module, step, clipped, gradients) -> dict:
    weights = {name: whole(weight.detach()) for name, weight in module.named_parameters()}
    return {"loss": step.loss, "norm": clipped.norm, "count": step.count, "gradients": gradients, "weights": weights}


def alone(fleet, folder):
    module = decoder(head_norm=True)
    if fleet.place("tensor"):  # all start from the weights of the first
        with torch.no_grad():
            module.blocks[0].mixer.query.weight.add_(1.0)
    split_tensors(module, fleet)
    step = next(fit(module, next_token(), BATCHES, Still(), steps=1, clip=None, world=fleet))
    gradients = {name: whole(weight.grad) for name, weight in module.named_parameters()}
    held = module.blocks[0].mixer.query.weight.to_local().shape
    optimiser = AdamW(rate=0.01).build(module)
    clipped = next(fit(module, next_token(), BATCHES, optimiser, steps=1, clip=0.1, world=fleet))
    return {"held": tuple(held), **result(module, step, clipped, gradients)}


def sharded(fleet, folder):
    module = split_tensors(decoder(), fleet)
    wrapped, objective = shard(module, next_token(), fleet)
    mine = [BATCHES[fleet.place("data")]]
    step = next(fit(wrapped, objective, mine, Still(), steps=1, clip=None, world=fleet))
    gradients = {name: whole(weight.grad) for name, weight in module.named_parameters()}
    optimiser = AdamW(rate=0.01).build(module)
    clipped = next(fit(wrapped, objective, mine, optimiser, steps=1, clip=0.1, world=fleet))
    return result(module, step, clipped, gradients)


def compare(results, one) -> None:
    for held in results:
        assert held["count"] == one["count"]
        assert held["loss"] == pytest.approx(one["loss"], rel=1e-12)
        assert held["norm"] == pytest.approx(one["norm"], rel=1e-12)
        near(held["gradients"], one["gradients"])
        near(held["weights"], one["weights"])


def test_two_processes_share_the_heads(processes):
    results = processes(__file__, alone, tensor=2)
    compare(results, taught(decoder(head_norm=True), BATCHES[0]))
    assert all(held["held"] == (8, 8) for held in results)  # 2 of 4 heads of width 4


@pytest.mark.proof
def test_four_processes_share_heads_and_data(processes):
    results = processes(__file__, sharded, data=2, tensor=2)
    compare(results, taught(decoder(), joined(BATCHES)))


def test_what_cannot_be_shared_out_is_refused():
    module = decoder()
    with pytest.raises(BadInput, match=r"kv_heads: 2 cannot be shared out among 4"):
        _check(module.blocks[0].mixer, 4)
    with pytest.raises(BadInput, match="no plan to cut it"):
        _check(module.norm, 2)
    with pytest.raises(BadInput, match=r"Layout\.tensor"):
        Layout(tensor=0)
