from __future__ import annotations

import pytest
from transformers import LlamaConfig

SMALL = {
    "vocab_size": 67,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 2.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
OPTIONS = {
    "plain": {},
    "every head its own": {"num_key_value_heads": 4},
    "one kv head": {"num_key_value_heads": 1, "num_hidden_layers": 2},
    "three to one": {"num_attention_heads": 6, "num_key_value_heads": 2},
    "attention biases": {"attention_bias": True},
    "feed biases": {"mlp_bias": True},
    "tied": {"tie_word_embeddings": True},
    "odd head width": {"head_dim": 10, "num_attention_heads": 3, "num_key_value_heads": 3},
    "coarse eps": {"rms_norm_eps": 1e-2},
    "gelu": {"hidden_act": "gelu"},
    "tanh gelu": {"hidden_act": "gelu_pytorch_tanh"},
    "relu": {"hidden_act": "relu"},
    "another base": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    "linear": {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 10000.0}},
    "llama3": {"rope_parameters": {**LLAMA3, "rope_theta": 5000.0}},
    "yarn": {"rope_parameters": {**YARN, "rope_theta": 10000.0}},
    "yarn, all told": {
        "rope_parameters": {**YARN, "rope_theta": 1e4, "beta_fast": 4.0, "beta_slow": 0.5, "attention_factor": 1.3}
    },
    "yarn, untruncated": {"rope_parameters": {**YARN, "rope_theta": 1e4, "truncate": False}},
    "yarn, mscale": {"rope_parameters": {**YARN, "rope_theta": 1e4, "mscale": 1.5, "mscale_all_dim": 0.7}},
    "older spelling": {"rope_theta": 700.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
    "everything": {
        "num_hidden_layers": 4,
        "hidden_size": 60,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "head_dim": 14,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
        "rope_parameters": {**LLAMA3, "rope_theta": 1e6},
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_twin(options, make_twin, check_twin):
    check_twin(make_twin(LlamaConfig(**(SMALL | options))))


def test_dynamic_ntk_takes_its_base_from_the_prompt(make_twin, check_twin):
    told = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    twin = make_twin(LlamaConfig(**SMALL | {"max_position_embeddings": 6, "rope_parameters": told}))
    # transformers moves the base at every step, we do not (nn/rope_scaling.py): no continuation beyond its length.
    check_twin(twin, steps=0)
    prompt = twin.sequences[1]
    assert twin.greedy(prompt, 4) == twin.their_greedy(prompt, 4)
