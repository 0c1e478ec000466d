from __future__ import annotations

import pytest
from transformers import GPT2Config

SMALL = {"vocab_size": 67, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 32}
OPTIONS = {
    "plain": {},
    "one head": {"n_head": 1},
    "odd width": {"n_embd": 33, "n_head": 3, "n_inner": 50},
    "own hidden width": {"n_inner": 70},
    "not tied": {"tie_word_embeddings": False},
    "not scaled": {"scale_attn_weights": False},
    "scale falls with depth": {"scale_attn_by_inverse_layer_idx": True, "n_layer": 4},
    "falls from one": {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False},
    "exact gelu, coarse eps": {"activation_function": "gelu", "layer_norm_epsilon": 1e-2},
    "silu": {"activation_function": "silu"},
    "relu, other dropouts": {"activation_function": "relu", "resid_pdrop": 0.3, "embd_pdrop": 0.0, "attn_pdrop": 0.2},
    "one layer whose scale would fall": {"n_layer": 1, "scale_attn_by_inverse_layer_idx": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_twin(options, make_twin, check_twin):
    check_twin(make_twin(GPT2Config(**(SMALL | options))))
