from __future__ import annotations

import math

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.train.loss import Loss
from cutaway.train.objectives.causal import Causal
from cutaway.train.precision import Bfloat16
from cutaway.train.validation import Score, validate


def test_every_item_weighs_the_same_however_the_split_is_cut(decoder, batches):
    module = decoder().double()
    given = [*batches(1, (30,)), *batches(1, (2,), seed=1)]
    both = Batch(
        ids_N=torch.cat([batch.ids_N for batch in given]),
        lengths=(30, 2),
        targets_N=torch.cat([batch.targets_N for batch in given]),
    )
    score = validate(module, Causal(), given)
    assert score.loss == pytest.approx(validate(module, Causal(), [both]).loss, rel=1e-13)
    assert score.count == 32
    alone = [validate(module, Causal(), [batch]).loss for batch in given]
    assert score.loss == pytest.approx((30 * alone[0] + 2 * alone[1]) / 32, rel=1e-13)
    assert score.perplexity == pytest.approx(math.exp(score.loss))


@pytest.mark.parametrize("training", [True, False])
def test_it_leaves_the_module_as_it_was(decoder, batches, training):
    module = decoder(dropout=0.5).train(training)
    scores = [validate(module, Causal(), batches(2)) for _ in range(2)]
    assert scores[0] == scores[1]  # no dropout
    assert module.training is training and module.blocks[0].training is training
    assert all(weight.grad is None for weight in module.parameters())

    def broken():
        yield from batches(1)
        raise OSError

    with pytest.raises(OSError):
        validate(module, Causal(), broken())
    assert module.training is training


def test_metrics_precision_and_other_processes(decoder, batches):
    class Measured:
        splits = True

        def __call__(self, module, batch):
            loss = Causal()(module, batch)
            return Loss(total=loss.total, count=loss.count, metrics={"half": torch.tensor(loss.count / 2)})

    class Two:
        size = 2

        def sum(self, numbers):
            return 2 * numbers

        def length(self, gradients):
            return 0.0

    module = decoder()
    score = validate(module, Measured(), batches(2), world=Two())
    assert score.metrics == {"half": 0.5} and score.count == 104
    half = validate(module, Measured(), batches(2), precision=Bfloat16())
    assert half.loss != score.loss and half.loss == pytest.approx(score.loss, rel=0.01)


def test_nothing_to_score_is_an_error(decoder):
    with pytest.raises(BadInput, match="nothing to score"):
        validate(decoder(), Causal(), [])
    assert Score(loss=1e4, count=1, metrics={}).perplexity == math.inf
