"""Fully sharded: gradients, optimisers' steps and the gradient's length are those of one process; what each holds."""

from __future__ import annotations

import pytest
import torch

from cutaway.train.fit import fit
from cutaway.train.optimisers.adafactor import Adafactor
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.optimisers.muon import Muon
from cutaway.train.parallel.shard import shard
from cutaway.train.recompute import recompute
from cutaway.train.schedules import Linear, Scheduled
from cutaway.train.shards import shard as part
from cutaway.train.shards import whole

from .models import Still, batch, decoder, joined, near, next_token, taught

BATCHES = [[batch(1), batch(2, (3, 4, 2))], [batch(3, (9,)), batch(4, (2, 2))]]  # of two processes: unequal counts
VALUES = {
    "adamw": AdamW(rate=0.01),
    "adafactor": Adafactor(rate=0.01),
    "muon": Muon(rate=0.01, precision="float64", rest=AdamW(rate=0.01)),
}


def work(fleet, folder):
    module = decoder(tied=False)
    if fleet.place("data"):  # all start from the weights of the first
        with torch.no_grad():
            module.norm.weight.add_(1.0)
    wrapped, objective = shard(module, next_token(), fleet)
    mine = BATCHES[fleet.place("data")]
    told = {"accumulate": 2, "world": fleet}
    step = next(fit(wrapped, objective, mine, Still(), steps=1, clip=None, **told))
    gradients = {name: whole(weight.grad) for name, weight in module.named_parameters()}
    held = sum(part(weight.grad).numel() for weight in module.parameters())
    clipped = next(fit(wrapped, objective, mine, AdamW(rate=0.01).build(module), steps=1, clip=0.1, **told))
    result = {"loss": step.loss, "norm": clipped.norm, "count": step.count, "gradients": gradients, "held": held}
    result["weights"] = {name: whole(weight.detach()) for name, weight in module.named_parameters()}
    module = recompute(decoder(tied=False))
    wrapped, objective = shard(module, next_token(), fleet)
    next(fit(wrapped, objective, mine, Still(), steps=1, clip=None, **told))
    result["recomputed"] = {name: whole(weight.grad) for name, weight in module.named_parameters()}
    for name, value in VALUES.items():
        module = decoder(tied=False)
        wrapped, objective = shard(module, next_token(), fleet)
        optimiser = Scheduled(value.build(module), Linear(steps=10))
        list(fit(wrapped, objective, mine * 3, optimiser, steps=3, **told))
        result[name] = {name: whole(weight.detach()) for name, weight in module.named_parameters()}
    return result


@pytest.fixture(scope="module")
def results(processes):
    return processes(__file__, work, data=2)


def together() -> torch.Tensor:
    return joined([BATCHES[rank][turn] for turn in range(2) for rank in range(2)])


def test_gradients_are_those_of_one_process(results):
    alone = taught(decoder(tied=False), together())
    for result in results:
        assert result["count"] == alone["count"]
        assert result["loss"] == pytest.approx(alone["loss"], rel=1e-12)
        assert result["norm"] == pytest.approx(alone["norm"], rel=1e-12)
        near(result["gradients"], alone["gradients"])
        near(result["weights"], alone["weights"])
        near(result["recomputed"], alone["gradients"])


def test_each_process_holds_its_share(results):
    total = sum(weight.numel() for weight in decoder(tied=False).parameters())
    assert sum(result["held"] for result in results) == total
    # Rows are cut in halves; what has an odd number of rows leaves one more to the first.
    assert all(abs(result["held"] - total / 2) < 0.02 * total for result in results)


@pytest.mark.parametrize("name", VALUES)
def test_optimisers_move_shards_as_they_move_the_whole(name, results):
    module = decoder(tied=False)
    list(fit(module, next_token(), [together()] * 3, Scheduled(VALUES[name].build(module), Linear(steps=10)), steps=3))
    for result in results:
        near(result[name], {name: weight.detach() for name, weight in module.named_parameters()})
