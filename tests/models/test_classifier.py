from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.models.classifier import SequenceClassifier, TokenClassifier
from cutaway.nn.context import Context

BOTH = pytest.mark.parametrize("kind", [SequenceClassifier, TokenClassifier])


@BOTH
@torch.no_grad()
def test_it_is_one_linear_map(kind):
    torch.manual_seed(0)
    head = kind(classes=3).build(4).double()
    x_ND = torch.randn(5, 4, dtype=torch.float64)
    expected = [[float(row @ x + bias) for row, bias in zip(head.out.weight, head.out.bias, strict=True)] for x in x_ND]
    assert torch.allclose(head(x_ND, Context.of((5,))), torch.tensor(expected, dtype=torch.float64), atol=1e-12)
    cost = kind(classes=3).cost(4, 5, 5)
    assert cost.parameters == sum(parameter.numel() for parameter in head.parameters()) and cost.flops == 2 * 5 * 12


def test_dropout_acts_on_what_comes_in_in_training_alone():
    torch.manual_seed(0)
    head = TokenClassifier(classes=2, dropout=0.5).build(64)
    torch.nn.init.ones_(head.out.weight)
    ones_ND = torch.ones(100, 64)
    assert torch.equal(head.eval()(ones_ND, Context.of((100,))), torch.full((100, 2), 64.0))
    noisy = head.train()(ones_ND, Context.of((100,))).detach()
    # Half are dropped and the rest doubled: 100 sums of 64 draws, deviation 8 each, so their mean is within 5 of 64.
    assert noisy.std() > 1 and abs(float(noisy.mean()) - 64) < 5


@BOTH
@pytest.mark.parametrize(("wrong", "field"), [({"classes": 0}, "classes"), ({"dropout": 1.0}, "dropout")])
def test_an_impossible_value_is_refused(kind, wrong, field):
    with pytest.raises(BadInput, match=rf"{kind.__name__}\.{field}"):
        kind(**{"classes": 2, **wrong})
