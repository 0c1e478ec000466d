from __future__ import annotations

import pytest
from transformers import OpenAIGPTConfig

SMALL = {"vocab_size": 67, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 32}
OPTIONS = {
    "plain": {},
    "one head": {"n_head": 1},
    "odd width": {"n_embd": 33, "n_head": 3},
    "relu": {"afn": "relu"},
    "silu": {"afn": "silu"},
    "swish": {"afn": "swish", "n_layer": 2},
    "coarse eps, no dropout": {"layer_norm_epsilon": 1e-2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "not tied": {"tie_word_embeddings": False},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_twin(options, make_twin, check_twin):
    check_twin(make_twin(OpenAIGPTConfig(**(SMALL | options))))
