"""What Llama and its descendants have in common in a config.json: sizes, rotation, gated feed, RMS norms.

Read next: weights/architectures/llama.py
"""

from __future__ import annotations

from typing import Any, TypedDict

from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.ops.activation import ALIASES
from cutaway.weights.architectures.rotation import read_rope, write_rope
from cutaway.weights.fields import LAYERS, Fields

FULL, SLIDING = "full_attention", "sliding_attention"


def written(activation: str) -> str:
    """The name in config.json of one of our activations: most are called there what they are called here."""
    return "gelu_pytorch_tanh" if activation == "gelu_tanh" else activation


def length(fields: Fields, default: int = 2048) -> int:
    return fields.count("max_position_embeddings", default, most=2**31)


def layers(fields: Fields, name: str = "num_hidden_layers") -> int:
    return fields.count(name, most=LAYERS)


class Heads(TypedDict):
    heads: int
    kv_heads: int
    head_dim: int


def heads(fields: Fields, *, kv_heads: int | None = None, head_dim: int | None = None) -> Heads:
    """`heads`, `kv_heads`, `head_dim`; what is absent is an architecture's own number, else heads and dim / heads."""
    if fields.says("num_key_value_heads"):  # null says as many as heads; absence, the default
        kv_heads = None
    count = fields.count("num_attention_heads", most=2**16)
    dim = fields.count("hidden_size")
    if fields.get("head_dim", head_dim) is None and dim % count:
        fields.refuse("num_attention_heads", f"{count} heads do not divide hidden_size {dim}, and head_dim is missing")
    return {
        "heads": count,
        "kv_heads": fields.count("num_key_value_heads", kv_heads or count, most=2**16),
        "head_dim": fields.count("head_dim", head_dim or dim // count, most=2**16),
    }


def rope(fields: Fields, head_dim: int, longest: int = 2048, *, part: float | None = None) -> Rope:
    """`part`: of a head that rotates, where an architecture has such and the file does not say."""
    if head_dim % 2:
        fields.refuse("head_dim", f"a head of {head_dim} dims cannot rotate: the number must be even")
    return read_rope(fields, head_dim, length(fields, longest), part=part)


def gated(fields: Fields, *, bias: bool = False) -> Gated:
    activation = fields.choice("hidden_act", ALIASES, "silu")
    return Gated(hidden=fields.count("intermediate_size"), activation=activation, bias=bias)


def rms_norm(fields: Fields, offset: float = 0.0) -> RMSNorm:
    return RMSNorm(eps=fields.number("rms_norm_eps", 1e-6), offset=offset)


def dropout(fields: Fields) -> float:
    return fields.number("attention_dropout", 0.0)


def window(fields: Fields, longest: int, default: int | None = 4096) -> int | None:
    """`sliding_window`, where null means none and absence means the architecture's own. A window beyond the model's
    length (`longest`, where the file does not say one) is cut to it: files have such, and the rest would see nothing.
    """
    told = fields.count("sliding_window", None if fields.says("sliding_window") else default, most=2**31)
    return None if told is None else min(told, length(fields, longest))


def mixers(spec: Decoder) -> list[GroupedQuery]:
    """The mixers of all blocks. Raises BadInput where one is no GroupedQuery: no checkpoint here describes it."""
    found = [block.mixer for block in spec.blocks if isinstance(block.mixer, GroupedQuery)]
    if len(found) != len(spec.blocks):
        raise BadInput("a block's mixer is not GroupedQuery", field="Decoder.blocks")
    return found


def write(spec: Decoder) -> dict[str, Any]:
    """The common fields of a decoder of equal blocks but for their windows, in transformers' older spelling."""
    mixer, feed = mixers(spec)[0], spec.blocks[0].feed
    if not isinstance(feed, Gated) or not isinstance(spec.norm, RMSNorm):
        raise BadInput("a feed is not Gated, or the last norm is not RMSNorm", field="Decoder.blocks")
    return {
        "vocab_size": spec.vocab,
        "hidden_size": spec.dim,
        "num_hidden_layers": len(spec.blocks),
        "num_attention_heads": mixer.heads,
        "num_key_value_heads": mixer.kv_heads,
        "head_dim": mixer.head_dim,
        "intermediate_size": feed.hidden,
        "hidden_act": written(feed.activation),
        "rms_norm_eps": spec.norm.eps,
        "max_position_embeddings": spec.length,
        "tie_word_embeddings": spec.tied,
        "attention_dropout": mixer.dropout,
        "attention_bias": mixer.bias,
        **write_rope(mixer.rope),
    }


def write_windows(spec: Decoder) -> dict[str, Any]:
    """`sliding_window` and `layer_types` of a decoder in which some layers see a window and others everything."""
    found = [mixer.window for mixer in mixers(spec)]
    return {
        "sliding_window": next((one for one in found if one is not None), None),
        "layer_types": [FULL if one is None else SLIDING for one in found],
    }
