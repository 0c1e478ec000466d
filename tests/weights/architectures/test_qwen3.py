from __future__ import annotations

import pytest
from transformers import Qwen3Config

SMALL = {
    "vocab_size": 67,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
}
WINDOW = {"use_sliding_window": True, "sliding_window": 4}
OPTIONS = {
    "plain": {},
    "biases": {"attention_bias": True},
    "tied, odd head width": {
        "tie_word_embeddings": True,
        "head_dim": 10,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
    },
    "windows on the upper layers": {**WINDOW, "max_window_layers": 1},
    "windows by name": {**WINDOW, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    "coarse eps, in the head norms too": {"rms_norm_eps": 1e-2},
    "yarn": {
        "rope_parameters": {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 16,
            "rope_theta": 1e4,
        }
    },
    "every head its own": {"num_key_value_heads": 4, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_twin(options, make_twin, check_twin):
    check_twin(make_twin(Qwen3Config(**(SMALL | options))))
