from __future__ import annotations

import pytest
from transformers import DeepseekV2Config

from cutaway.base.errors import BadInput
from cutaway.nn.attention.latent import Latent
from cutaway.nn.experts.groups import Groups
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.feedforward import Gated
from cutaway.weights.architectures.deepseek_v2 import spec
from cutaway.weights.fields import Fields

SMALL = {
    "vocab_size": 67,
    "hidden_size": 48,
    "intermediate_size": 56,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "q_lora_rank": None,
    "kv_lora_rank": 12,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 6,
    "v_head_dim": 8,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 8.0,
    "original_max_position_embeddings": 8,
    "beta_fast": 32,
    "beta_slow": 1,
}
OPTIONS = {
    "as DeepSeek-V2-Lite": {"rope_parameters": YARN | {"mscale": 0.707, "mscale_all_dim": 0.707}},
    "as DeepSeek-V2, queries compressed, groups": {
        "q_lora_rank": 10,
        "num_hidden_layers": 2,  # with a third, scores this large make 3e-5 of float32's roundings
        "topk_method": "group_limited_greedy",
        "n_group": 3,
        "topk_group": 2,
        "routed_scaling_factor": 16.0,
        "rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 0.5},
    },
    "dense alone, absorbed always": {"first_k_dense_replace": 3, "kv_lora_rank": 4, "v_head_dim": 12},
    "no dense layer, biases": {
        "first_k_dense_replace": 0,
        "q_lora_rank": 10,
        "attention_bias": True,
        "mlp_bias": True,
        "v_head_dim": 5,
    },
    "tied, coarse eps, another base": {
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
        "kv_lora_rank": 40,
        "n_shared_experts": 1,
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_twin(options, make_twin, check_twin):
    check_twin(make_twin(DeepseekV2Config(**(SMALL | options))))


def test_a_file_with_stacked_experts(make_twin, check_twin):
    check_twin(make_twin(DeepseekV2Config(**SMALL), save_original_format=False))


# DeepSeek-V2-Lite's own config.json: what it says of the arithmetic.
LITE = {
    "first_k_dense_replace": 1,
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "moe_intermediate_size": 1408,
    "moe_layer_freq": 1,
    "n_group": 1,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "norm_topk_prob": False,
    "num_attention_heads": 16,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 27,
    "num_key_value_heads": 16,
    "q_lora_rank": None,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 0.707,
        "mscale_all_dim": 0.707,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "scoring_func": "softmax",
    "topk_group": 1,
    "topk_method": "greedy",
    "v_head_dim": 128,
    "vocab_size": 102400,
}


def test_lite_is_of_the_published_size():
    """arXiv 2405.04434, appendix B: 15.7B parameters, 2.4B of them at work for a token."""
    lite = spec(Fields(LITE, "config.json"))
    assert lite.cost(1, 1).parameters == 15_706_484_224
    mixed = lite.blocks[-1].feed
    assert isinstance(mixed, Experts) and isinstance(lite.blocks[0].feed, Gated)
    idle = mixed.cost(lite.dim, 1, 1).parameters - mixed.active(lite.dim)
    tables = 2 * lite.vocab * lite.dim
    assert 2.2e9 < lite.cost(1, 1).parameters - 26 * idle - tables < 2.4e9
    held = lite.cost(1, 1000).cache_bytes
    assert held == 27 * 1000 * (512 + 64) * 4


def test_what_is_absent_is_the_architectures_own():
    plain = {name: SMALL[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")}
    read = spec(Fields(plain | {"num_experts_per_tok": 6}, "config.json"))
    mixer, feed = read.blocks[0].mixer, read.blocks[0].feed
    assert isinstance(mixer, Latent) and isinstance(feed, Experts)
    assert (mixer.rank, mixer.query_rank, mixer.head_dim, mixer.value_dim) == (512, 1536, 128, 128)
    assert (mixer.rope.width, mixer.rope.interleaved, read.length) == (64, True, 2048)
    assert (feed.count, feed.expert.hidden, feed.shared and feed.shared.hidden) == (64, 1407, 2 * 1407)


def test_groups_are_read_where_the_method_uses_them():
    grouped = spec(Fields(SMALL | OPTIONS["as DeepSeek-V2, queries compressed, groups"], "config.json"))
    greedy = spec(Fields(SMALL | {"n_group": 3, "topk_group": 2}, "config.json"))
    routers = [one.blocks[-1].feed.router for one in (grouped, greedy)]
    assert [one.groups for one in routers] == [Groups(count=3, top_k=2), None]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"num_key_value_heads": 2}, "num_key_value_heads"),
        ({"qk_rope_head_dim": 5}, "qk_rope_head_dim"),
        ({"kv_lora_rank": 0}, "kv_lora_rank"),
        ({"q_lora_rank": -1}, "q_lora_rank"),
        ({"v_head_dim": 2**17}, "v_head_dim"),
        ({"first_k_dense_replace": -1}, "first_k_dense_replace"),
        ({"first_k_dense_replace": True}, "first_k_dense_replace"),
        ({"moe_layer_freq": 2}, "moe_layer_freq"),
        ({"scoring_func": "sigmoid"}, "scoring_func"),
        ({"norm_topk_prob": True}, "norm_topk_prob"),
        ({"topk_method": "noaux_tc"}, "topk_method"),
        ({"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2}, "Groups.count"),
        ({"topk_method": "group_limited_greedy", "n_group": 3, "topk_group": 4}, "Groups.top_k"),
        ({"num_experts_per_tok": 7}, "SoftmaxTopK.top_k"),
    ],
)
def test_what_would_change_the_arithmetic_is_refused(changed, field):
    fields = Fields(SMALL | changed, "config.json")
    with pytest.raises(BadInput) as caught:
        fields.told(lambda: spec(fields))
    assert caught.value.field == field and str(caught.value).startswith("config.json: ")
