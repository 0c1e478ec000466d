from __future__ import annotations

import pytest
from transformers import MistralConfig

SMALL = {
    "vocab_size": 67,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "sliding_window": 4,
}
OPTIONS = {
    "window shorter than the texts": {},
    "no window": {"sliding_window": None},
    "a window of two": {"sliding_window": 2, "num_hidden_layers": 2},
    "window longer than the texts": {"sliding_window": 30},
    "tied, wide heads, another base": {
        "tie_word_embeddings": True,
        "head_dim": 18,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    },
    "yarn": {
        "rope_parameters": {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 16,
            "rope_theta": 1e4,
        }
    },
    "relu, coarse eps": {"hidden_act": "relu", "rms_norm_eps": 1e-3},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_twin(options, make_twin, check_twin):
    check_twin(make_twin(MistralConfig(**(SMALL | options))))


def test_a_window_of_one(make_twin, check_twin):
    # transformers' cache keeps the last window - 1 tokens as `keys[-0:]`, which is all of them: no continuation.
    check_twin(make_twin(MistralConfig(**SMALL | {"sliding_window": 1})), steps=0)
