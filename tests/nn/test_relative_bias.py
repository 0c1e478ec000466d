from __future__ import annotations

import pytest
import torch
from transformers.models.t5.modeling_t5 import T5Attention

from cutaway.base.errors import BadInput
from cutaway.nn.relative_bias import RelativeBias
from cutaway.ops.visible import Visible

SIZES = ((32, 128), (8, 20), (16, 17), (4, 3))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("buckets", "furthest"), SIZES)
def test_buckets_are_those_that_t5_was_trained_with(buckets, furthest, causal):
    distance_W = torch.arange(-700, 700)
    ours = RelativeBias(heads=1, causal=causal, buckets=buckets, furthest=furthest).bucket(distance_W)
    expected = T5Attention._relative_position_bucket(
        distance_W, bidirectional=not causal, num_buckets=buckets, max_distance=furthest
    )
    assert torch.equal(ours, expected)
    assert set(ours.tolist()) <= set(range(buckets))


@pytest.mark.parametrize("causal", [True, False])
def test_each_pair_gets_the_number_of_its_distance(causal):
    """Against a loop over pairs, for sequences of a ragged cached pass."""
    spec = RelativeBias(heads=3, causal=causal, buckets=8, furthest=6)
    module = spec.build()
    torch.nn.init.normal_(module.weight)
    see = Visible(queries=(4, 1, 0, 9, 1), keys=(4, 7, 3, 9, 7), causal=causal)
    bias = module(see)(see)
    for index, (queries, keys) in enumerate(zip(see.queries, see.keys, strict=True)):
        found_HTS = bias(index)
        assert found_HTS.shape == (3, queries, keys)
        for t in range(queries):
            for s in range(keys):
                bucket = int(spec.bucket(torch.tensor(s - (keys - queries + t))))
                assert torch.equal(found_HTS[:, t, s], module.weight[bucket]), (index, t, s)


def test_layers_share_what_is_made_once():
    module = RelativeBias(heads=2, causal=True).build()
    see = Visible(queries=(5, 5), keys=(5, 5))
    distances = module(see)
    assert distances(see)(0) is distances(see)(1)


def test_the_gradient_of_a_bucket_is_the_sum_over_its_pairs():
    module = RelativeBias(heads=2, causal=False, buckets=4, furthest=3).build().double()
    see = Visible(queries=(4,), keys=(4,), causal=False)
    slope_HTS = torch.randn(2, 4, 4, dtype=torch.float64)
    (module(see)(see)(0) * slope_HTS).sum().backward()
    expected = torch.zeros(4, 2, dtype=torch.float64)
    for t in range(4):
        for s in range(4):
            expected[int(module.spec.bucket(torch.tensor(s - t)))] += slope_HTS[:, t, s]
    assert torch.allclose(module.weight.grad, expected)


def test_it_costs_its_table():
    spec = RelativeBias(heads=3, causal=True, buckets=16, furthest=40)
    assert spec.cost(24, 5, 9).parameters == sum(one.numel() for one in spec.build().parameters()) == 48
    assert spec.cost(24, 5, 9).flops == 0


@pytest.mark.parametrize(
    "wrong", [{"heads": 0}, {"buckets": 6}, {"buckets": 0}, {"furthest": 8}, {"buckets": 3, "causal": True}]
)
def test_an_impossible_value_is_refused(wrong):
    with pytest.raises(BadInput, match="RelativeBias"):
        RelativeBias(**{"heads": 2, "causal": False, "buckets": 32, "furthest": 128, **wrong})
