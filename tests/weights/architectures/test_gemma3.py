from __future__ import annotations

import json

import pytest
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig

from cutaway.base.errors import BadInput
from cutaway.nn.context import Context
from cutaway.weights.huggingface import read_folder
from cutaway.weights.saving import write_folder

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


def test_the_text_half_of_a_model_with_pictures(tmp_path):
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    config = Gemma3Config(text_config=SMALL, vision_config=vision, mm_tokens_per_image=4, image_token_index=66)
    torch.manual_seed(5)
    theirs = Gemma3ForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    theirs.save_pretrained(tmp_path / "theirs")
    ours, spec = read_folder(tmp_path / "theirs", device="cpu")
    ids = torch.randint(0, 60, (11,))
    with torch.no_grad():
        # Both in float32, added up in another order.
        torch.testing.assert_close(ours(ids, Context.of((11,)))[0], theirs(ids[None]).logits[0], atol=2e-5, rtol=2e-5)
    write_folder(ours, spec, tmp_path / "ours")
    assert json.loads((tmp_path / "ours" / "config.json").read_text(encoding="utf-8"))["model_type"] == "gemma3_text"

    path = tmp_path / "theirs" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["text_config"]["hidden_size"] = -1
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(BadInput, match=r"config\.json: text_config\.hidden_size: must be from 1"):
        read_folder(tmp_path / "theirs", device="cpu")
