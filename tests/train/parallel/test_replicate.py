"""Data parallel: gradients, not only losses, are those of one process over all batches."""

from __future__ import annotations

import pytest
import torch

from cutaway.train.fit import fit
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.parallel.replicate import replicate

from .models import Still, batch, decoder, joined, near, next_token, taught

BATCHES = [[batch(1), batch(2, (3, 4, 2))], [batch(3, (9,)), batch(4, (2, 2))]]  # of two processes: unequal counts


def work(fleet, folder):
    module = decoder()
    if fleet.place("data"):  # all start from the weights of the first
        with torch.no_grad():
            module.norm.weight.add_(1.0)
    wrapped, objective = replicate(module, next_token(), fleet)
    mine = BATCHES[fleet.place("data")]
    told = {"steps": 1, "accumulate": 2, "world": fleet}
    step = next(fit(wrapped, objective, mine, Still(), clip=None, **told))
    gradients = {name: weight.grad.clone() for name, weight in module.named_parameters()}
    optimiser = AdamW(rate=0.01).build(module)
    clipped = next(fit(wrapped, objective, mine, optimiser, clip=0.1, **told))
    weights = {name: weight.detach() for name, weight in module.named_parameters()}
    return {"loss": step.loss, "norm": clipped.norm, "count": step.count, "gradients": gradients, "weights": weights}


@pytest.fixture(scope="module")
def results(processes):
    return processes(__file__, work, data=2)


def test_gradients_are_those_of_one_process(results):
    alone = taught(decoder(), joined([BATCHES[rank][turn] for turn in range(2) for rank in range(2)]))
    for result in results:
        assert result["count"] == alone["count"]
        assert result["loss"] == pytest.approx(alone["loss"], rel=1e-12)
        assert result["norm"] == pytest.approx(alone["norm"], rel=1e-12)
        near(result["gradients"], alone["gradients"])
        near(result["weights"], alone["weights"])


def test_all_processes_have_the_same_bits(results):
    one, other = results
    assert all(torch.equal(one["weights"][name], other["weights"][name]) for name in one["weights"])
