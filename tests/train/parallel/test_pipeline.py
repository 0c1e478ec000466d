"""A pipeline: losses, gradients, their joint length and the steps are those of one process."""

from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.train.fit import fit
from cutaway.train.objectives.causal import Causal
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.parallel.fleet import Layout
from cutaway.train.parallel.pipeline import Stage, split_blocks

from .models import Still, batch, decoder, near, taught

BATCH = batch(7, (5, 5, 5, 5))


def work(fleet, folder):
    module = decoder(tied=False)
    if fleet.place("pipeline"):  # all start from the weights of the first
        with torch.no_grad():
            module.norm.weight.add_(1.0)
    stage, objective = split_blocks(module, fleet, length=5, micro=2)
    step = next(fit(stage, objective, [BATCH], Still(), steps=1, clip=None, world=fleet))
    gradients = {name: weight.grad.clone() for name, weight in stage.named_parameters()}
    clipped = next(fit(stage, objective, [BATCH], AdamW(rate=0.01).build(stage), steps=1, clip=0.1, world=fleet))
    weights = {name: weight.detach() for name, weight in stage.named_parameters()}
    refused = []
    for wrong in (batch(7, (4, 4)), batch(7, (5,))):
        try:
            objective(stage, wrong)
        except BadInput as error:
            refused.append(str(error))
    held = {"loss": step.loss, "norm": clipped.norm, "count": step.count}
    return {**held, "gradients": gradients, "weights": weights, "refused": refused}


def check(results) -> None:
    one = taught(decoder(tied=False), BATCH, Causal())
    for kind in ("gradients", "weights"):
        joined = {name: tensor for result in results for name, tensor in result[kind].items()}
        assert sum(len(result[kind]) for result in results) == len(joined)  # no weight is on two stages
        near(joined, one[kind])
    for result in results:
        assert result["count"] == one["count"]
        assert result["loss"] == pytest.approx(one["loss"], rel=1e-12)
        assert result["norm"] == pytest.approx(one["norm"], rel=1e-12)
        assert len(result["refused"]) == 2


def test_two_stages(processes):
    check(processes(__file__, work, pipeline=2))


@pytest.mark.proof
def test_four_stages(processes):
    check(processes(__file__, work, pipeline=4))


def test_stages_in_a_row_are_the_decoder():
    module = decoder(tied=False)
    x = BATCH.ids_N
    for place in range(3):
        x = Stage(module, place, 3, 5)(x)
    from cutaway.nn.context import Context

    torch.testing.assert_close(x, module(BATCH.ids_N, Context.of(BATCH.lengths))[0])


class Alone:
    layout = Layout(pipeline=8)


def test_what_cannot_be_split_is_refused():
    with pytest.raises(BadInput, match="8 stages are more than the 4 blocks"):
        split_blocks(decoder(tied=False), Alone(), length=5, micro=2)
    Alone.layout = Layout(pipeline=2)
    with pytest.raises(BadInput, match=r"Decoder\.tied"):
        split_blocks(decoder(), Alone(), length=5, micro=2)
