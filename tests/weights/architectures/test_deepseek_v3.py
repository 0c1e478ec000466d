from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import DeepseekV3Config

from cutaway.base.errors import BadInput
from cutaway.nn.attention.latent import Latent
from cutaway.nn.experts.groups import Groups
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SigmoidTopK
from cutaway.weights.architectures.deepseek_v3 import spec
from cutaway.weights.fields import Fields
from cutaway.weights.huggingface import read_folder

SMALL = {
    "vocab_size": 67,
    "hidden_size": 48,
    "intermediate_size": 56,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64,
    "q_lora_rank": 10,
    "kv_lora_rank": 12,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 6,
    "v_head_dim": 8,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_shared_experts": 1,
    "n_group": 4,
    "topk_group": 2,
    "first_k_dense_replace": 1,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 8.0,
    "original_max_position_embeddings": 8,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}
OPTIONS = {
    "as DeepSeek-V3": {"rope_parameters": YARN},
    "pairs in halves, queries not compressed": {"rope_interleave": False, "q_lora_rank": None},
    "one group, weights as they are": {"n_group": 1, "topk_group": 1, "norm_topk_prob": False, "n_shared_experts": 2},
    "no dense layer, biases, narrow values": {
        "first_k_dense_replace": 0,
        "attention_bias": True,
        "v_head_dim": 5,
        "routed_scaling_factor": 1.5,
    },
    "dense alone, a small rank": {"first_k_dense_replace": 3, "kv_lora_rank": 4, "tie_word_embeddings": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_twin(options, make_twin, check_twin):
    check_twin(make_twin(DeepseekV3Config(**(SMALL | options))))


def test_a_file_with_stacked_experts(make_twin, check_twin):
    check_twin(make_twin(DeepseekV3Config(**SMALL), save_original_format=False))


def test_the_module_that_predicts_a_second_token_is_passed_over(make_twin):
    twin = make_twin(DeepseekV3Config(**SMALL))
    file = twin.folder / "theirs" / "model.safetensors"
    save_file(load_file(file) | {"model.layers.61.eh_proj.weight": torch.zeros(48, 96)}, file, {"format": "pt"})
    assert read_folder(twin.folder / "theirs", device="cpu")[1] == twin.spec
    save_file(load_file(file) | {"model.layers.3.eh_proj.weight": torch.zeros(48, 96)}, file, {"format": "pt"})
    with pytest.raises(BadInput, match=r"model\.layers\.3\.eh_proj"):
        read_folder(twin.folder / "theirs", device="cpu")


def test_v3_is_of_the_published_size():
    """arXiv 2412.19437, abstract: 671B parameters, 37B of them at work for a token. All numbers are the defaults."""
    sizes = {"vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432, "num_hidden_layers": 61}
    large = spec(Fields({**sizes, "num_attention_heads": 128}, "config.json"))
    mixed, mixer = large.blocks[3].feed, large.blocks[3].mixer
    assert isinstance(mixed, Experts) and isinstance(mixer, Latent) and not isinstance(large.blocks[2].feed, Experts)
    assert mixed.router == SigmoidTopK(top_k=8, scale=2.5, groups=Groups(count=8, top_k=4, worth="best two"))
    parameters = large.cost(1, 1).parameters
    idle = mixed.cost(large.dim, 1, 1).parameters - mixed.active(large.dim)
    assert parameters == 671_026_419_200
    assert parameters - 58 * idle == pytest.approx(37.5e9, rel=0.01)
    assert large.cost(1, 1).cache_bytes == 61 * 576 * 4


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"num_key_value_heads": 2}, "num_key_value_heads"),
        ({"scoring_func": "softmax"}, "scoring_func"),
        ({"topk_method": "greedy"}, "topk_method"),
        ({"n_group": 3}, "Groups.count"),
        ({"n_group": 8}, "Groups.worth"),
        ({"topk_group": 5}, "Groups.top_k"),
        ({"num_experts_per_tok": 9, "topk_group": 4}, "SigmoidTopK.top_k"),
        ({"num_experts_per_tok": 5}, "Groups.top_k"),
    ],
)
def test_what_would_change_the_arithmetic_is_refused(changed, field):
    fields = Fields(SMALL | changed, "config.json")
    with pytest.raises(BadInput) as caught:
        fields.told(lambda: spec(fields))
    assert caught.value.field == field and str(caught.value).startswith("config.json: ")
