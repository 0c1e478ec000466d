from __future__ import annotations

import pytest
from transformers import Qwen2Config

SMALL = {
    "vocab_size": 67,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
WINDOW = {"use_sliding_window": True, "sliding_window": 4}
OPTIONS = {
    "plain": {},
    "tied": {"tie_word_embeddings": True, "num_hidden_layers": 2},
    "windows on the upper layers": {**WINDOW, "max_window_layers": 1},
    "windows on all layers": {**WINDOW, "max_window_layers": 0, "num_hidden_layers": 2},
    "windows on no layer": {**WINDOW, "max_window_layers": 9, "num_hidden_layers": 2},
    "windows by name": {**WINDOW, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "a window that is not used": {"use_sliding_window": False, "sliding_window": 4, "max_window_layers": 0},
    "linear": {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 1e6}},
    "yarn, one kv head": {
        "num_key_value_heads": 1,
        "rope_parameters": {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 16,
            "rope_theta": 1e4,
        },
    },
    "every head its own, gelu, coarse eps": {"num_key_value_heads": 4, "hidden_act": "gelu", "rms_norm_eps": 1e-3},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_twin(options, make_twin, check_twin):
    check_twin(make_twin(Qwen2Config(**(SMALL | options))))
