"""GGUF metadata as the config.json that the same model would have, and back: one reading of each architecture for both.

llama.cpp's keys: "llama.embedding_length" is "hidden_size", and so on. Three things are told by tensors instead: a tied
head by the absence of `output.weight`, biases by their presence, Llama 3's stretched rotation by `rope_freqs.weight`.
Read next: weights/gguf/model.py, weights/architectures/table.py
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.positions import Rope
from cutaway.nn.rope_scaling import Llama3Scaling
from cutaway.ops.rope import frequencies
from cutaway.weights.architectures.architecture import Architecture
from cutaway.weights.architectures.table import ARCHITECTURES
from cutaway.weights.fields import Fields

# llama.cpp's key, behind "<architecture>.", and config.json's.
KEYS = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "context_length": "max_position_embeddings",
    "rope.freq_base": "rope_theta",
    "rope.freq_base_swa": "rope_local_base_freq",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
GPT2_KEYS = {
    "block_count": "n_layer",
    "embedding_length": "n_embd",
    "feed_forward_length": "n_inner",
    "attention.head_count": "n_head",
    "attention.layer_norm_epsilon": "layer_norm_epsilon",
    "context_length": "n_positions",
}
ROPE_FREQUENCIES = "rope_freqs.weight"
WIDE_LAYERS = {"gemma2": 46, "gemma3": 62}  # layers of the 27B of each
# What each architecture's GGUF leaves unsaid because llama.cpp knows it.
UNSAID: dict[str, dict[str, Any]] = {
    "gemma2": {"hidden_activation": "gelu_pytorch_tanh"},
    "gemma3": {"hidden_activation": "gelu_pytorch_tanh"},
}


def architecture_named(metadata: Mapping[str, Any], path: Path) -> Architecture:
    """The architecture of a file's `general.architecture`. Raises BadInput, with the known ones, for any other."""
    name = metadata.get("general.architecture")
    known = {one.gguf: one for one in reversed(ARCHITECTURES.values()) if one.gguf is not None}
    if not isinstance(name, str) or name not in known:
        message = f"{name!r:.60} is not known here (known: {', '.join(sorted(map(str, known)))})"
        raise BadInput(message, source=path, field="general.architecture")
    return known[name]


def keys_of(architecture: Architecture) -> dict[str, str]:
    return GPT2_KEYS if architecture.gguf == "gpt2" else KEYS


def read_config(
    metadata: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], architecture: Architecture, path: Path
) -> Fields:
    """The config.json that says the same. `shapes`: those of the file's tensors, by name."""
    prefix = f"{architecture.gguf}."
    told: dict[str, Any] = {"model_type": architecture.model_type, **UNSAID.get(str(architecture.gguf), {})}
    for key, name in keys_of(architecture).items():
        value = metadata.get(prefix + key)
        if isinstance(value, list):  # one number a layer: all the same, or no architecture here has it
            if len(set(map(repr, value))) != 1:
                raise BadInput("differs from layer to layer", source=path, field=prefix + key)
            value = value[0]
        if value is not None:
            told[name] = value
    told["vocab_size"] = shapes.get("token_embd.weight", (0,))[0]
    told["tie_word_embeddings"] = "output.weight" not in shapes
    told["attention_bias"] = "blk.0.attn_output.bias" in shapes
    told["mlp_bias"] = "blk.0.ffn_down.bias" in shapes
    if "rope_theta" in told:
        told["rope_scaling"] = _scaling(metadata, prefix, path)
    if architecture.gguf in WIDE_LAYERS and "head_dim" in told:
        # llama.cpp divides scores by the root of the head's dim, but in the 27B, known by its layers, of dim / heads.
        wide = told.get("num_hidden_layers") == WIDE_LAYERS[architecture.gguf]
        told["query_pre_attn_scalar"] = told["head_dim"]
        if wide and isinstance(told.get("hidden_size"), int) and told.get("num_attention_heads"):
            told["query_pre_attn_scalar"] = told["hidden_size"] // told["num_attention_heads"]
    _refuse_partial_rotation(metadata, prefix, told, path)
    return Fields(told, path)


def _scaling(metadata: Mapping[str, Any], prefix: str, path: Path) -> dict[str, Any] | None:
    kind = metadata.get(prefix + "rope.scaling.type")
    factor = metadata.get(prefix + "rope.scaling.factor", metadata.get(prefix + "rope.scale_linear"))
    if kind in (None, "none") and (factor is None or kind == "none"):
        return None
    told = {"rope_type": kind or "linear", "factor": factor}
    if kind not in (None, "linear", "yarn"):
        raise BadInput(
            f"{kind!r:.60} is not known here (known: none, linear, yarn)",
            source=path,
            field=f"{prefix}rope.scaling.type",
        )
    if kind == "yarn":
        told["original_max_position_embeddings"] = metadata.get(prefix + "rope.scaling.original_context_length")
        for key, name in (("attn_factor", "attention_factor"), ("beta_fast", "beta_fast"), ("beta_slow", "beta_slow")):
            told[name] = metadata.get(f"{prefix}rope.scaling.yarn_{key}", metadata.get(f"{prefix}rope.scaling.{key}"))
    return {name: value for name, value in told.items() if value is not None}


def _refuse_partial_rotation(metadata: Mapping[str, Any], prefix: str, told: Mapping[str, Any], path: Path) -> None:
    width = metadata.get(prefix + "rope.dimension_count")
    heads, dim = told.get("num_attention_heads"), told.get("hidden_size")
    if width is None or not isinstance(heads, int) or not isinstance(dim, int) or heads < 1:
        return  # the architecture's reading says what is wrong with them
    head_dim = told.get("head_dim", dim // heads)
    if width != head_dim:
        message = f"only {width} of {head_dim} dims of a head rotate: no architecture here does that"
        raise BadInput(message, source=path, field=prefix + "rope.dimension_count")


def llama3_scaling(factors_W: Tensor, rope: Rope, path: Path) -> Llama3Scaling:
    """The value whose frequencies are the plain ones divided by `rope_freqs.weight`, (W / 2,).

    The file holds the divisors alone. The numbers behind them are those of all released models (bounds 1 and 4, trained
    at 8,192 tokens) and a factor, the largest divisor. Raises BadInput where these do not give the file's divisors.
    """
    factor = float(factors_W.max()) if factors_W.numel() else 0.0
    if factors_W.shape == (rope.width // 2,) and 1.0 <= factor < float("inf"):
        scaling = Llama3Scaling(
            factor=factor, original_length=8192, low_frequency_factor=1.0, high_frequency_factor=4.0
        )
        if torch.allclose(divisors(replace_scaling(rope, scaling)), factors_W.float(), rtol=1e-4):
            return scaling
    raise BadInput("are not the divisors of Llama 3's rotation", source=path, field=ROPE_FREQUENCIES)


def divisors(rope: Rope) -> Tensor:
    """What a rope's scaling divides each plain frequency by, (W / 2,)."""
    return frequencies(rope.theta, rope.width) / rope.frequencies()


def replace_scaling(rope: Rope, scaling: Llama3Scaling | None) -> Rope:
    return Rope(theta=rope.theta, width=rope.width, interleaved=rope.interleaved, scaling=scaling)


def write_metadata(architecture: Architecture, config: Mapping[str, Any], spec: Decoder) -> dict[str, Any]:
    """The metadata, without the tokenizer's, of a decoder that `architecture` holds."""
    prefix = f"{architecture.gguf}."
    made: dict[str, Any] = {"general.architecture": architecture.gguf}
    for key, name in keys_of(architecture).items():
        if config.get(name) is not None:
            made[prefix + key] = config[name]
    mixer = spec.blocks[0].mixer
    if isinstance(mixer, GroupedQuery) and mixer.rope is not None:
        made[prefix + "rope.dimension_count"] = mixer.rope.width
        made[prefix + "attention.value_length"] = mixer.head_dim
    made[prefix + "vocab_size"] = spec.vocab
    scaling = config.get("rope_scaling")
    if scaling is None or scaling["rope_type"] == "llama3":
        return made
    if scaling["rope_type"] not in ("linear", "yarn"):
        raise BadInput(f"GGUF has no word for rotation scaled by {scaling['rope_type']!r}", field="rope_scaling")
    made[prefix + "rope.scaling.type"] = scaling["rope_type"]
    made[prefix + "rope.scaling.factor"] = scaling["factor"]
    if scaling["rope_type"] == "yarn":
        made[prefix + "rope.scaling.original_context_length"] = scaling["original_max_position_embeddings"]
        for key, name in (("attn_factor", "attention_factor"), ("beta_fast", "beta_fast"), ("beta_slow", "beta_slow")):
            if scaling.get(name) is not None:
                made[f"{prefix}rope.scaling.yarn_{key}"] = scaling[name]
    return made
