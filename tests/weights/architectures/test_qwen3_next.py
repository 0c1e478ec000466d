from __future__ import annotations

import pytest
from transformers import Qwen3NextConfig

from cutaway.base.errors import BadInput
from cutaway.nn.attention.gated_delta import GatedDelta
from cutaway.nn.experts.mixture import Experts
from cutaway.weights.architectures.qwen3_next import spec
from cutaway.weights.fields import Fields

SMALL = {
    "vocab_size": 67,
    "hidden_size": 48,
    "intermediate_size": 40,
    "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 28,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "max_position_embeddings": 64,
    "num_experts": 8,
    "rms_norm_eps": 0.02,
    "num_experts_per_tok": 3,
}
# Short keys are brought to length 1, and small states to norm 1, in every layer: against our own float64, transformers'
# float32 is up to 1e-4 off, and so is ours. A wrong option moves logits by 1e-2 and more.
CLOSE = {"atol": 4e-4, "rtol": 0.0}
FULL, LINEAR = "full_attention", "linear_attention"
OPTIONS = {
    "as published": {},
    "other layers": {"layer_types": [FULL, LINEAR, LINEAR, FULL], "linear_num_value_heads": 2},
    "dense layers, tied": {"mlp_only_layers": [1, 3], "tie_word_embeddings": True},
    "every second layer": {"decoder_sparse_step": 2, "norm_topk_prob": False},
    "biases, another kernel": {"attention_bias": True, "linear_conv_kernel_dim": 2, "rms_norm_eps": 0.1},
    "half of a head rotates": {"rope_parameters": {"rope_theta": 5e4, "partial_rotary_factor": 0.5}},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_twin(options, make_twin, check_twin):
    check_twin(make_twin(Qwen3NextConfig(**(SMALL | options))), close=CLOSE)


def test_a_file_with_stacked_experts(make_twin, check_twin):
    check_twin(make_twin(Qwen3NextConfig(**SMALL), save_original_format=False), close=CLOSE)


def read(**told):
    return spec(Fields(SMALL | told, "config.json"))


def test_which_layers_are_what():
    def linear(**told):
        return [isinstance(block.mixer, GatedDelta) for block in read(num_hidden_layers=6, **told).blocks]

    assert linear() == [True, True, True, False, True, True]
    assert linear(full_attention_interval=2) == [True, False] * 3
    assert linear(layer_types=[FULL] * 5 + [LINEAR]) == [False] * 5 + [True]
    mixed = [isinstance(block.feed, Experts) for block in read(mlp_only_layers=[0], decoder_sparse_step=2).blocks]
    assert mixed == [False, True, False, True]


def test_a_quarter_of_a_head_rotates():
    def width(**told):
        return read(layer_types=[FULL] * 4, **told).blocks[0].mixer.rope.width

    assert width() == 4 and width(partial_rotary_factor=0.5) == 8
    assert width(rope_parameters={"partial_rotary_factor": 1.0}) == 16


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"linear_num_key_heads": 3}, "linear_num_key_heads"),
        ({"partial_rotary_factor": 0.05}, "partial_rotary_factor"),
        ({"partial_rotary_factor": 1.5}, "partial_rotary_factor"),
        ({"layer_types": ["sliding_attention"] * 4}, "layer_types"),
        ({"num_experts_per_tok": 9}, "SoftmaxTopK.top_k"),
    ],
)
def test_what_cannot_be_is_refused(told, field):
    with pytest.raises(BadInput) as caught:
        read(**told)
    assert caught.value.field == field
