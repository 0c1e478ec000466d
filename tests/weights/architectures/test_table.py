"""Each architecture reads what it writes; and whatever stands in a config.json, it is a model or one clear line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.base.errors import BadInput
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.norms import LayerNorm, RMSNorm
from cutaway.weights.architectures.table import ARCHITECTURES, architecture_of, home_of
from cutaway.weights.assemble import parameters_of
from cutaway.weights.fields import Fields

LLAMA = {
    "vocab_size": 40,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "head_dim": 8,
    "hidden_act": "silu",
    "rope_theta": 1e4,
    "rope_scaling": None,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "attention_dropout": 0.0,
    "partial_rotary_factor": None,
}
WINDOW = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 16, "norm_topk_prob": True}
DELTA = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "linear_conv_kernel_dim": 4,
    "shared_expert_intermediate_size": 12,
    "full_attention_interval": 2,
}
GEMMA = LLAMA | WINDOW | {"query_pre_attn_scalar": 9, "final_logit_softcapping": 3.0, "hidden_activation": "gelu"}
GPT = {
    "vocab_size": 40,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 3,
    "n_positions": 16,
    "layer_norm_epsilon": 1e-5,
    "attn_pdrop": 0.1,
    "resid_pdrop": 0.1,
    "tie_word_embeddings": False,
}
BERT = {
    "architectures": ["BertForTokenClassification"],
    "vocab_size": 40,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 16,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.2,
    "classifier_dropout": None,
    "type_vocab_size": 2,
    "id2label": {"0": "a", "1": "b", "2": "c"},
    "tie_word_embeddings": True,
    "is_decoder": False,
    "position_embedding_type": "absolute",
}
T5 = {
    "vocab_size": 40,
    "d_model": 24,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "dropout_rate": 0.1,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "scale_decoder_outputs": False,
    "is_encoder_decoder": True,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
    "eos_token_id": [1, 3],
}
MARIAN = {
    "vocab_size": 67,
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 28,
    "max_position_embeddings": 32,
    "decoder_start_token_id": 66,
}
DEEPSEEK = LLAMA | {
    "num_key_value_heads": 3,
    "head_dim": None,
    "q_lora_rank": 5,
    "kv_lora_rank": 6,
    "qk_nope_head_dim": 4,
    "qk_rope_head_dim": 2,
    "v_head_dim": 3,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 10,
    "moe_layer_freq": 1,
    "n_routed_experts": 4,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.5,
}
BASES: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "mistral": LLAMA | {"sliding_window": 4},
    "qwen2": LLAMA | WINDOW | {"use_sliding_window": True, "max_window_layers": 1},
    "qwen3": LLAMA | WINDOW | {"use_sliding_window": True},
    "qwen3_next": LLAMA | EXPERTS | DELTA | {"mlp_only_layers": [1]},
    "mixtral": LLAMA | {"sliding_window": 4, "num_local_experts": 6, "num_experts_per_tok": 3},
    "qwen3_moe": LLAMA | EXPERTS | {"mlp_only_layers": [1]},
    "deepseek_v2": DEEPSEEK | {"topk_method": "group_limited_greedy", "scoring_func": "softmax"},
    "deepseek_v3": DEEPSEEK | {"topk_method": "noaux_tc", "scoring_func": "sigmoid", "rope_interleave": True},
    "gemma2": GEMMA | {"attn_logit_softcapping": 2.0},
    "gemma3_text": GEMMA | {"rope_local_base_freq": 100.0, "rope_parameters": None, "sliding_window_pattern": 2},
    "gpt2": GPT | {"n_inner": 40, "activation_function": "gelu_new", "scale_attn_by_inverse_layer_idx": True},
    "openai-gpt": GPT | {"afn": "gelu"},
    "bert": BERT,
    "t5": T5,
    "marian": MARIAN,
}


WRITTEN = sorted(BASES)  # all but those that are read in part


def read(model_type: str, **changed: Any) -> Any:
    fields = Fields({"model_type": model_type, **BASES[model_type], **changed}, "config.json")
    return fields.told(lambda: architecture_of(fields).spec(fields))


@pytest.mark.parametrize("model_type", WRITTEN)
def test_finds_its_own_home(model_type):
    assert ARCHITECTURES[model_type].model_type == model_type
    spec = read(model_type)
    home, config = home_of(spec)
    assert (home.model_type, config["model_type"]) == (model_type, model_type)
    assert home.spec(Fields(config, "config.json")) == spec


@pytest.mark.parametrize("model_type", WRITTEN)
def test_names_every_parameter_once(model_type):
    """In both vocabularies no two parameters share a place, unless as parts of one tensor."""
    from cutaway.weights.architectures.place import place_of

    spec = read(model_type, attention_bias=False)
    architecture, names = ARCHITECTURES[model_type].of(spec), parameters_of(spec)
    for known in (architecture.names, architecture.gguf_names, architecture.stacked_names):
        places = [place_of(known, name) for name in names] if known is not None else []
        assert len({(place.name, place.part, place.row) for place in places}) == len(places)
    assert (architecture.gguf is None) == (architecture.gguf_names is None)


def test_the_table_is_complete():
    assert {name: architecture.model_type for name, architecture in ARCHITECTURES.items()} == {
        name: name for name in ARCHITECTURES
    }
    assert set(ARCHITECTURES) == {*WRITTEN, "gemma3"}


def test_layers_take_turns():
    """What the Gemmas and the Qwens do where `layer_types` is absent, as in checkpoints of some years ago."""

    def windows(model_type: str, layers: int, **changed: Any) -> list[bool]:
        blocks = read(model_type, num_hidden_layers=layers, layer_types=None, **changed).blocks
        return [block.mixer.window is not None for block in blocks]

    assert windows("gemma2", 5) == [True, False, True, False, True]
    assert windows("gemma3_text", 7, sliding_window_pattern=None) == [True] * 5 + [False, True]
    for model_type in ("qwen2", "qwen3"):
        assert windows(model_type, 5, max_window_layers=2) == [False, False, True, True, True]
        assert windows(model_type, 2, max_window_layers=0) == [True, True]
        assert windows(model_type, 2, max_window_layers=None) == [False, False], "28 if nobody says"
        assert windows(model_type, 2, max_window_layers=0, use_sliding_window=False) == [False, False]


@pytest.mark.parametrize("model_type", ["mistral", "mixtral", "qwen3_moe", "qwen2", "gemma2", "gemma3_text"])
def test_a_window_beyond_the_context_is_cut_to_it(model_type):
    """Files have such, Mistral's default of 4,096 before a short context among them; what is seen is the same."""
    told = {"sliding_window": 4096, "use_sliding_window": True, "max_position_embeddings": 64}
    blocks = read(model_type, **told).blocks
    assert {block.mixer.window for block in blocks} - {None} == {64}


@pytest.mark.parametrize(
    ("model_type", "changed", "message"),
    [
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention: a decoder that also reads an encoder"),
        ("gpt2", {"n_head": 5}, "n_head: 5 heads do not divide n_embd 24"),
        ("gpt2", {"activation_function": "mish"}, 'activation_function: "mish" is not known here'),
        ("openai-gpt", {"afn": "gelu_new_new"}, "afn: .* is not known here"),
        ("openai-gpt", {"n_head": 5}, "n_head: 5 heads do not divide"),
        ("llama", {"head_dim": None, "num_attention_heads": 5}, "num_attention_heads: 5 heads do not divide"),
        ("qwen2", {"layer_types": ["full_attention"]}, "layer_types: expected a list of 3 names"),
        ("qwen2", {"layer_types": ["full_attention", "chunked_attention", 3]}, "layer_types: .* is not known here"),
        ("qwen2", {"layer_types": None, "max_window_layers": -1}, "max_window_layers: must be a whole number from 0"),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention: "),
        ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar: must be above 0"),
        ("gemma2", {"attn_logit_softcapping": 0.0}, "GroupedQuery.softcap: must be positive"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping: Gemma 3 has no cap"),
        ("gemma3_text", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "rope_parameters.rope_type: "),
        ("llama", {"rope_parameters": {"full_attention": {}}}, "rope_parameters.full_attention: "),
    ],
)
def test_what_would_change_the_arithmetic_is_refused(model_type, changed, message):
    with pytest.raises(BadInput, match=rf"config\.json: {message}"):
        read(model_type, **changed)


def test_decoders_without_a_home():
    spec, norm = read("llama"), RMSNorm()
    plain = Block(mixer=GroupedQuery(heads=2, kv_heads=1, head_dim=4), feed=Plain(hidden=8), before=norm)
    gated = Block(mixer=plain.mixer, feed=Gated(hidden=8), before=norm)
    for homeless in (
        replace(spec, norm=LayerNorm()),
        replace(spec, embedding_scale=3.0),
        replace(spec, blocks=(plain,)),
        replace(spec, blocks=(gated,)),  # no positions at all
        replace(spec, blocks=(*spec.blocks, gated)),  # layers that differ in more than a window
        replace(spec, norm=None),
    ):
        with pytest.raises(BadInput, match="Decoder: no architecture that other programs know"):
            home_of(homeless)


# --- fuzzing -----------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["gelu", "linear", "yarn", "llama3", "full_attention", "rope_type", "factor", "rope_theta", "\n"]
)
NUMBERS = st.integers(-2, 70) | st.sampled_from(
    [2**24, 2**31, 2**63, 10**400, -(10**30), 0.5, -1.0, 1e308, float("inf"), float("nan")]
)
JUNK = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=4,
)
CHANGES = st.lists(st.tuples(st.integers(0, 99), JUNK), min_size=1, max_size=3)
FUZZ = {"deadline": None, "derandomize": True}


def check_changes(model_type: str, changes: list[tuple[int, Any]]) -> None:
    """A decoder whose parameters can be named, or one line."""
    names = sorted(BASES[model_type])
    try:
        spec = read(model_type, **{names[which % len(names)]: value for which, value in changes})
    except BadInput as error:
        assert str(error).startswith("config.json: ") and "\n" not in str(error) and len(str(error)) < 700
        return
    assert parameters_of(spec)


@settings(max_examples=150, **FUZZ)
@given(model_type=st.sampled_from(WRITTEN), changes=CHANGES)
def test_mutated_configs(model_type, changes):
    check_changes(model_type, changes)


@pytest.mark.proof
@settings(max_examples=2000, **FUZZ)
@given(model_type=st.sampled_from(WRITTEN), changes=CHANGES)
def test_mutated_configs_at_length(model_type, changes):
    check_changes(model_type, changes)
