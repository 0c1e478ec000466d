from __future__ import annotations

import json

import pytest
from transformers import MixtralConfig

from cutaway.base.errors import BadInput
from cutaway.nn.experts.mixture import Experts
from cutaway.weights.architectures.mixtral import spec
from cutaway.weights.fields import Fields
from cutaway.weights.huggingface import read_folder

SMALL = {
    "vocab_size": 67,
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
}
OPTIONS = {
    "two of five": {},
    "one expert a token": {"num_experts_per_tok": 1},
    "all experts": {"num_experts_per_tok": 5},
    "a window, wide heads, tied": {"sliding_window": 4, "head_dim": 18, "tie_word_embeddings": True},
    "relu, coarse eps": {"hidden_act": "relu", "rms_norm_eps": 1e-3},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_twin(options, make_twin, check_twin):
    check_twin(make_twin(MixtralConfig(**(SMALL | options))))


def test_a_file_with_stacked_experts(make_twin, check_twin):
    check_twin(make_twin(MixtralConfig(**SMALL), save_original_format=False))


def test_more_experts_a_token_than_there_are_is_refused_naming_the_file():
    fields = Fields(SMALL | {"num_experts_per_tok": 6}, "config.json")
    with pytest.raises(BadInput, match=r"config\.json.*TopKSoftmax\.top_k.*6 of 5 experts"):
        fields.told(lambda: spec(fields))


@pytest.mark.parametrize(("count", "layers"), [(5000, 1), (2000, 40), (0, 3), (-1, 3), ("8", 3), (2.0, 3)])
def test_impossible_numbers_of_experts_are_refused(count, layers):
    with pytest.raises(BadInput) as caught:
        spec(Fields(SMALL | {"num_local_experts": count, "num_hidden_layers": layers}, "config.json"))
    assert caught.value.field == "num_local_experts"


def test_what_is_absent_is_mixtrals_own():
    plain = {name: value for name, value in SMALL.items() if "experts" not in name}
    feed = spec(Fields(plain, "config.json")).blocks[0].feed
    assert isinstance(feed, Experts) and (feed.count, feed.router.top_k) == (8, 2)


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("count", [4, 6])
def test_a_file_with_more_or_fewer_experts_than_config_says_is_refused(count, stacked, make_twin):
    folder = make_twin(MixtralConfig(**SMALL), save_original_format=not stacked).folder / "theirs"
    told = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"num_local_experts": count}
    (folder / "config.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(BadInput, match=r"model\.layers\.0\.(mlp|block_sparse_moe)\.(experts|gate)|has no place"):
        read_folder(folder, device="cpu")
