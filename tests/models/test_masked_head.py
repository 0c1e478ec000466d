from __future__ import annotations

import math

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.models.masked_head import MaskedHead
from cutaway.nn.context import Context
from cutaway.nn.norms import LayerNorm

from .encoders import VALUES, random


@torch.no_grad()
def test_scores_are_as_the_equation_reads():
    """Loops in float64: gelu(W x + b), brought to unit scale, times each row of the token table, plus its bias."""
    module = random(VALUES["masked"])
    head, table = module.head, module.embedding.weight
    x_D = torch.randn(16, dtype=torch.float64)
    before = [float(head.dense.bias[row] + sum(head.dense.weight[row] * x_D)) for row in range(16)]
    bent = [one * 0.5 * (1 + math.erf(one / math.sqrt(2))) for one in before]
    mean = sum(bent) / 16
    deviation = math.sqrt(sum((one - mean) ** 2 for one in bent) / 16 + 1e-12)
    normed = [
        (one - mean) / deviation * float(weight) + float(bias)
        for one, weight, bias in zip(bent, head.norm.weight, head.norm.bias, strict=True)
    ]
    expected = [
        sum(a * float(b) for a, b in zip(normed, row, strict=True)) + float(bias)
        for row, bias in zip(table, head.bias, strict=True)
    ]
    got_1V = module.logits(x_D[None], Context.of((1,), causal=False))
    assert torch.allclose(got_1V[0], torch.tensor(expected, dtype=torch.float64), atol=1e-10)


def test_an_activation_has_our_name_and_an_unknown_one_is_refused():
    assert MaskedHead(norm=LayerNorm(), activation="gelu_new").activation == "gelu_tanh"
    with pytest.raises(BadInput, match=r"MaskedHead\.activation.*unknown"):
        MaskedHead(norm=LayerNorm(), activation="glue")
