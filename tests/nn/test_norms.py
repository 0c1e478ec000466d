from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm

from cutaway.base.errors import BadInput
from cutaway.lab.checks.norm import layer_norm_oracle, rms_norm_oracle
from cutaway.lab.checks.parity import compare, random
from cutaway.nn.context import Context
from cutaway.nn.norms import LayerNorm, RMSNorm
from cutaway.ops.forms import FAST, READABLE

FORMS = pytest.mark.parametrize("forms", [FAST, READABLE], ids=["fast", "readable"])


def called(module, forms):
    """The module as a function of its input and its parameters, in their own order."""
    names = [name for name, _ in module.named_parameters()]
    context = Context.of((3,), forms=forms)

    def run(x_ND, *parameters):
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x_ND, context))

    return run


@FORMS
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_rms_norm_uses_its_weight_eps_and_offset(forms, offset):
    module = RMSNorm(eps=0.3, offset=offset).build(5)
    inputs = {"x": random(3, 5, seed=1), "weight": random(5, seed=2)}
    compare(called(module, forms), lambda x, w: rms_norm_oracle(x, w, eps=0.3, offset=offset), inputs)


@FORMS
@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_uses_its_weight_bias_and_eps(forms, bias):
    module = LayerNorm(eps=0.3, bias=bias).build(5)
    inputs = {"x": random(3, 5, seed=1), "weight": random(5, seed=2)}
    if bias:
        inputs["bias"] = random(5, seed=3)
    compare(called(module, forms), lambda x, w, b=None: layer_norm_oracle(x, w, b, eps=0.3), inputs)


def test_the_form_comes_from_the_context():
    context = SimpleNamespace(
        forms=SimpleNamespace(
            rms_norm=lambda *given, **named: ("rms", named), layer_norm=lambda *given, **named: "layer"
        )
    )
    assert RMSNorm(eps=1e-3).build(2)(torch.ones(1, 2), context) == ("rms", {"eps": 1e-3, "offset": 0.0})
    assert LayerNorm().build(2)(torch.ones(1, 2), context) == "layer"


@pytest.mark.parametrize("value", [RMSNorm(), RMSNorm(offset=1.0), LayerNorm(), LayerNorm(bias=False)])
def test_cost_start_and_meta(value):
    module = value.build(6)
    assert value.cost(6, 3, 9).parameters == sum(p.numel() for p in module.parameters())
    assert value.cost(6, 3, 9).flops == 0
    x_ND = torch.tensor([[1.0, -1.0, 1.0, -1.0, 1.0, -1.0]])
    # Mean 0 and mean square 1: a fresh norm leaves it, but for eps.
    torch.testing.assert_close(module(x_ND, Context.of((1,))), x_ND, rtol=0, atol=1e-5)
    with torch.device("meta"):
        module = value.build(6)
    for forms in (FAST, READABLE):
        assert module(torch.empty(3, 6, device="meta"), Context.of((3,), device="meta", forms=forms)).is_meta


def test_gemma_weights_start_at_zero_as_their_twin():
    assert torch.equal(RMSNorm(offset=1.0).build(4).weight, Gemma2RMSNorm(4).weight)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: RMSNorm(eps=0.0), "RMSNorm.eps"),
        (lambda: RMSNorm(eps=-1e-6), "RMSNorm.eps"),
        (lambda: RMSNorm(eps=float("nan")), "RMSNorm.eps"),
        (lambda: RMSNorm(offset=float("inf")), "RMSNorm.offset"),
        (lambda: LayerNorm(eps=0.0), "LayerNorm.eps"),
    ],
)
def test_impossible_norms_are_refused_naming_the_field(make, field):
    with pytest.raises(BadInput) as caught:
        make()
    assert caught.value.field == field
