from __future__ import annotations

import pytest
import torch
from transformers import Gemma2Config, GPT2Config, LlamaConfig
from transformers.models.gemma2.modeling_gemma2 import Gemma2MLP
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
from transformers.models.llama.modeling_llama import LlamaMLP

from cutaway.base.errors import BadInput
from cutaway.lab.checks.feedforward import check_gated, check_plain
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated, Plain
from cutaway.ops.activation import ALIASES
from cutaway.ops.forms import FAST, READABLE

FORMS = pytest.mark.parametrize("forms", [FAST, READABLE], ids=["fast", "readable"])


def test_plain_against_its_oracle():
    check_plain(Plain)


def test_gated_against_its_oracle():
    check_gated(Gated)


@FORMS
@pytest.mark.parametrize(
    ("value", "twin"),
    [
        (
            Gated(hidden=24, activation="silu"),
            lambda: LlamaMLP(LlamaConfig(num_attention_heads=1, hidden_size=8, intermediate_size=24)),
        ),
        (
            Gated(hidden=24, activation="silu", bias=True),
            lambda: LlamaMLP(LlamaConfig(num_attention_heads=1, hidden_size=8, intermediate_size=24, mlp_bias=True)),
        ),
        (
            Gated(hidden=24, activation="gelu_pytorch_tanh"),
            lambda: Gemma2MLP(Gemma2Config(hidden_size=8, intermediate_size=24)),
        ),
    ],
    ids=["llama", "llama with biases", "gemma 2"],
)
def test_gated_equals_transformers(forms, value, twin):
    torch.manual_seed(0)
    other, module = twin().float(), value.build(8)
    module.load_state_dict({name.replace("_proj", ""): weight for name, weight in other.state_dict().items()})
    x_ND = torch.randn(5, 8)
    got, report = module(x_ND, Context.of((5,), forms=forms))
    torch.testing.assert_close(got, other(x_ND), rtol=1e-5, atol=1e-6)  # float32 sums in another order
    assert report == {}


@FORMS
def test_plain_equals_transformers_gpt2(forms):
    torch.manual_seed(0)
    other = GPT2MLP(32, GPT2Config(n_embd=8, resid_pdrop=0.0))
    module = Plain(hidden=32, activation="gelu_new").build(8)
    # GPT-2 keeps its matrices the other way round.
    weights = {name: weight.T if weight.dim() == 2 else weight for name, weight in other.state_dict().items()}
    module.load_state_dict(
        {name.replace("c_fc", "up").replace("c_proj", "down"): weight for name, weight in weights.items()}
    )
    x_ND = torch.randn(5, 8)
    got, _ = module(x_ND, Context.of((5,), forms=forms))
    torch.testing.assert_close(got, other(x_ND), rtol=1e-5, atol=1e-6)  # float32 sums in another order


def test_the_defaults_are_what_gpt2_and_llama_use():
    assert Plain(hidden=8) == Plain(hidden=8, activation="gelu_tanh", bias=True, dropout=0.0)
    assert Gated(hidden=8) == Gated(hidden=8, activation="silu", bias=False, dropout=0.0)


@pytest.mark.parametrize("name", ALIASES)
def test_a_checkpoints_name_for_an_activation_is_kept_as_ours(name):
    assert Plain(hidden=8, activation=name).activation == ALIASES[name]
    assert Gated(hidden=8, activation=name) == Gated(hidden=8, activation=ALIASES[name])


@pytest.mark.parametrize("value", [Plain(hidden=8), Gated(hidden=8, bias=True)])
@FORMS
def test_meta(value, forms):
    with torch.device("meta"):
        module = value.build(4)
    y_ND, _ = module(torch.empty(3, 4, device="meta"), Context.of((3,), device="meta", forms=forms))
    assert y_ND.is_meta and y_ND.shape == (3, 4)


@pytest.mark.parametrize("make", [Plain, Gated])
@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"hidden": 0}, "hidden"),
        ({"hidden": -4}, "hidden"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": -0.1}, "dropout"),
    ],
)
def test_impossible_feeds_are_refused_naming_the_field(make, wrong, field):
    with pytest.raises(BadInput) as caught:
        make(**{"hidden": 8, **wrong})
    assert caught.value.field == f"{make.__name__}.{field}"


@pytest.mark.parametrize("make", [Plain, Gated])
def test_an_unknown_activation_is_refused_with_the_nearest(make):
    with pytest.raises(
        BadInput, match=rf'{make.__name__}\.activation: unknown activation "swisch"; did you mean "swish"'
    ):
        make(hidden=8, activation="swisch")
