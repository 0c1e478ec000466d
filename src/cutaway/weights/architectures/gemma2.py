"""Gemma 2: norms on both sides of each part, capped scores and logits, windows on every other layer, wide embeddings.

Gemma team 2024 (arXiv 2408.00118).   Norm weights are stored less 1; embeddings are multiplied by sqrt(dim).
Read next: weights/architectures/gemma3.py
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.ops.activation import ALIASES
from cutaway.weights.architectures import llama, outline
from cutaway.weights.architectures.architecture import Architecture
from cutaway.weights.architectures.place import Place
from cutaway.weights.fields import Fields

LONGEST = 8192
NAMES = llama.NAMES | {
    "blocks.*.mixer_norms.after": "model.layers.*.post_attention_layernorm",
    "blocks.*.feed_norms.before": "model.layers.*.pre_feedforward_layernorm",
    "blocks.*.feed_norms.after": "model.layers.*.post_feedforward_layernorm",
}
# llama.cpp's files hold Gemma's norm weights with the 1 already added.
GGUF_NAMES = llama.GGUF_NAMES | {
    "norm": Place(name="output_norm", added=1.0),
    "blocks.*.mixer_norms.before": Place(name="blk.*.attn_norm", added=1.0),
    "blocks.*.mixer_norms.after": Place(name="blk.*.post_attention_norm", added=1.0),
    "blocks.*.feed_norms.before": Place(name="blk.*.ffn_norm", added=1.0),
    "blocks.*.feed_norms.after": Place(name="blk.*.post_ffw_norm", added=1.0),
}


def spec(fields: Fields) -> Decoder:
    sizes = outline.heads(fields, kv_heads=4, head_dim=256)
    mixer = GroupedQuery(
        **sizes,
        rope=outline.rope(fields, sizes["head_dim"], LONGEST),
        softcap=_cap(fields, "attn_logit_softcapping", 50.0),
        **projection(fields, sizes["head_dim"]),
    )
    near = replace(mixer, window=outline.window(fields, LONGEST))
    count = outline.layers(fields)
    kinds = fields.names("layer_types", (outline.FULL, outline.SLIDING), count)
    kinds = kinds or tuple(outline.FULL if layer % 2 else outline.SLIDING for layer in range(count))
    made = decoder(fields, [near if kind == outline.SLIDING else mixer for kind in kinds], LONGEST)
    return replace(made, softcap=_cap(fields, "final_logit_softcapping", 30.0))


def projection(fields: Fields, head_dim: int) -> dict[str, Any]:
    """`scale`, the biases and `dropout` of a Gemma's mixers."""
    if fields.flag("use_bidirectional_attention", False):
        fields.refuse("use_bidirectional_attention", "a Gemma that sees both ways is an encoder: not known here")
    scalar, bias = fields.number("query_pre_attn_scalar", 256.0), fields.flag("attention_bias", False)
    if not scalar > 0:
        fields.refuse("query_pre_attn_scalar", "must be above 0")
    scale = None if scalar == head_dim else scalar**-0.5
    return {"scale": scale, "bias": bias, "out_bias": bias, "dropout": outline.dropout(fields)}


def decoder(fields: Fields, mixers: list[GroupedQuery], longest: int) -> Decoder:
    """The decoder around its mixers, one for each layer, as Gemma 2 and 3 have it."""
    norm, dim = outline.rms_norm(fields, offset=1.0), fields.count("hidden_size")
    activation = fields.choice("hidden_activation", ALIASES, "gelu_pytorch_tanh")
    feed = Gated(hidden=fields.count("intermediate_size"), activation=activation)
    return Decoder(
        vocab=fields.count("vocab_size", 256_000 if longest == LONGEST else 262_208),
        dim=dim,
        blocks=tuple(Block(mixer=mixer, feed=feed, before=norm, after=norm) for mixer in mixers),
        length=outline.length(fields, longest),
        norm=norm,
        tied=fields.flag("tie_word_embeddings", True),
        embedding_scale=dim**0.5,
    )


def _cap(fields: Fields, name: str, default: float) -> float | None:
    """A bound, where null means none and absence means the architecture's own."""
    return fields.number(name, None if fields.says(name) else default)


def config(spec: Decoder) -> dict[str, Any]:
    mixer = outline.mixers(spec)[0]
    return outline.write(spec) | written(spec, mixer)


def written(spec: Decoder, mixer: GroupedQuery) -> dict[str, Any]:
    """The fields that only Gemmas have. transformers takes a whole number alone for `query_pre_attn_scalar`."""
    feed = spec.blocks[0].feed
    windows = outline.write_windows(spec)
    return {
        **windows,
        # transformers wants a number even where no layer has a window.
        "sliding_window": windows["sliding_window"] or min(4096, spec.length),
        "hidden_activation": outline.written(feed.activation) if isinstance(feed, Gated) else None,
        "query_pre_attn_scalar": mixer.head_dim if mixer.scale is None else round(mixer.scale**-2),
        "attn_logit_softcapping": mixer.softcap,
        "final_logit_softcapping": spec.softcap,
    }


GEMMA2 = Architecture(
    model_type="gemma2",
    made_by="Gemma2ForCausalLM",
    prefix="model.",
    names=NAMES,
    spec=spec,
    config=config,
    gguf="gemma2",
    gguf_names=GGUF_NAMES,
)
