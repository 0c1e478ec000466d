from __future__ import annotations

import pytest
from transformers import Qwen3MoeConfig

from cutaway.base.errors import BadInput
from cutaway.nn.experts.mixture import Experts
from cutaway.weights.architectures.qwen3_moe import spec
from cutaway.weights.fields import Fields

SMALL = {
    "vocab_size": 67,
    "hidden_size": 48,
    "intermediate_size": 40,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "norm_topk_prob": True,
}
OPTIONS = {
    "three of eight": {},
    "weights as they are": {"norm_topk_prob": False},
    "every second layer": {"decoder_sparse_step": 2},
    "the first layer dense, tied": {"mlp_only_layers": [0], "tie_word_embeddings": True},
    "a window on all layers, biases": {"use_sliding_window": True, "sliding_window": 4, "attention_bias": True},
    "all experts": {"num_experts_per_tok": 8, "num_key_value_heads": 4},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_twin(options, make_twin, check_twin):
    check_twin(make_twin(Qwen3MoeConfig(**(SMALL | options))))


def test_a_file_with_stacked_experts(make_twin, check_twin):
    check_twin(make_twin(Qwen3MoeConfig(**SMALL, mlp_only_layers=[1]), save_original_format=False))


def test_which_layers_are_mixtures():
    def mixed(**told):
        blocks = spec(Fields(SMALL | {"num_hidden_layers": 6} | told, "config.json")).blocks
        return [isinstance(block.feed, Experts) for block in blocks]

    assert mixed() == [True] * 6
    assert mixed(decoder_sparse_step=3) == [False, False, True] * 2
    assert mixed(mlp_only_layers=[0, 4]) == [False, True, True, True, False, True]
    assert mixed(mlp_only_layers=[1], decoder_sparse_step=2) == [False, False, False, True, False, True]


@pytest.mark.parametrize("told", ["all", [-1], [1.5], [True], {"0": 1}])
def test_a_broken_list_of_layers_is_refused(told):
    with pytest.raises(BadInput) as caught:
        spec(Fields(SMALL | {"mlp_only_layers": told}, "config.json"))
    assert caught.value.field == "mlp_only_layers"


def test_both_spellings_of_the_number_of_experts():
    published, transformers_5 = dict(SMALL), {**SMALL, "num_local_experts": 8}
    del transformers_5["num_experts"]
    assert spec(Fields(published, "config.json")) == spec(Fields(transformers_5, "config.json"))
