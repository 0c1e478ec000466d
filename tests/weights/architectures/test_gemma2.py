from __future__ import annotations

import pytest
from transformers import Gemma2Config

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
    # Far below the usual 50 and 30, so that both caps bend what these small models say.
    "attn_logit_softcapping": 2.0,
    "final_logit_softcapping": 3.0,
}
OPTIONS = {
    "plain": {},
    "no caps": {"attn_logit_softcapping": None, "final_logit_softcapping": None},
    "caps as usual": {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    "one cap": {"final_logit_softcapping": None},
    "scaled by the head's width": {"query_pre_attn_scalar": 16},
    "windows by name": {"layer_types": ["full_attention", "full_attention", "sliding_attention", "full_attention"]},
    "no windows": {"layer_types": ["full_attention"] * 4},
    "biases": {"attention_bias": True},
    "not tied": {"tie_word_embeddings": False},
    "silu, coarse eps, one kv head": {"hidden_activation": "silu", "rms_norm_eps": 1e-2, "num_key_value_heads": 1},
    "exact gelu, odd head width": {"hidden_activation": "gelu", "head_dim": 10, "num_key_value_heads": 4},
    "linear": {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_twin(options, make_twin, check_twin):
    check_twin(make_twin(Gemma2Config(**(SMALL | options))))
