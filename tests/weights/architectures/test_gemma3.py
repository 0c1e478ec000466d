from __future__ import annotations

import pytest
from transformers import Gemma3TextConfig

SMALL = {
    "vocab_size": 67,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "sliding_window": 4,
    "query_pre_attn_scalar": 24,
    "sliding_window_pattern": 3,
}
FULL, SLIDING = "full_attention", "sliding_attention"
NEAR = {"rope_type": "default", "rope_theta": 100.0}
OPTIONS = {
    "plain": {},
    "five to one": {"num_hidden_layers": 7, "sliding_window_pattern": 6},
    "windows by name": {"layer_types": [FULL, SLIDING, FULL, SLIDING]},
    "no windows": {"layer_types": [FULL] * 4},
    "windows alone": {"layer_types": [SLIDING] * 4},
    "capped logits": {"final_logit_softcapping": 3.0},
    "scaled by the head's width, biases": {"query_pre_attn_scalar": 16, "attention_bias": True},
    "not tied, one kv head": {"tie_word_embeddings": False, "num_key_value_heads": 1},
    "silu, coarse eps": {"hidden_activation": "silu", "rms_norm_eps": 1e-2},
    "older spelling": {
        "rope_theta": 3000.0,
        "rope_local_base_freq": 100.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "linear on global layers": {
        "rope_parameters": {FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e4}, SLIDING: NEAR}
    },
    "llama3 on global layers": {
        "rope_parameters": {
            FULL: {
                "rope_type": "llama3",
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 2.0,
                "original_max_position_embeddings": 16,
                "rope_theta": 1e4,
            },
            SLIDING: NEAR,
        }
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_twin(options, make_twin, check_twin):
    check_twin(make_twin(Gemma3TextConfig(**(SMALL | options))))
