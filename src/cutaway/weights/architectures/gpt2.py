"""GPT-2: learned positions, norms before each part, one matrix for query, key and value, matrices transposed.

Radford et al. 2019.   Departure: `scale_attn_by_inverse_layer_idx` (Mistral's GPT-2s) is a scale in each block's value.
Read next: weights/architectures/openai_gpt.py
"""

from __future__ import annotations

from typing import Any

from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Plain
from cutaway.nn.norms import LayerNorm
from cutaway.nn.positions import Learned
from cutaway.ops.activation import ALIASES
from cutaway.weights.architectures import outline
from cutaway.weights.architectures.architecture import Architecture
from cutaway.weights.architectures.place import Place
from cutaway.weights.fields import Fields

ATTENTION = "transformer.h.*.attn.c_attn"
NAMES = {
    "embedding": "transformer.wte",
    "positions": "transformer.wpe",
    "norm": "transformer.ln_f",
    "head": "lm_head",
    "blocks.*.mixer_norms.before": "transformer.h.*.ln_1",
    "blocks.*.mixer.query": Place(name=ATTENTION, part=(0, 3), transposed=True),
    "blocks.*.mixer.key": Place(name=ATTENTION, part=(1, 3), transposed=True),
    "blocks.*.mixer.value": Place(name=ATTENTION, part=(2, 3), transposed=True),
    "blocks.*.mixer.out": Place(name="transformer.h.*.attn.c_proj", transposed=True),
    "blocks.*.feed_norms.before": "transformer.h.*.ln_2",
    "blocks.*.feed.up": Place(name="transformer.h.*.mlp.c_fc", transposed=True),
    "blocks.*.feed.down": Place(name="transformer.h.*.mlp.c_proj", transposed=True),
}
GGUF_NAMES = {
    "embedding": "token_embd",
    "positions": "position_embd",
    "norm": "output_norm",
    "head": "output",
    "blocks.*.mixer_norms.before": "blk.*.attn_norm",
    "blocks.*.mixer.query": Place(name="blk.*.attn_qkv", part=(0, 3)),
    "blocks.*.mixer.key": Place(name="blk.*.attn_qkv", part=(1, 3)),
    "blocks.*.mixer.value": Place(name="blk.*.attn_qkv", part=(2, 3)),
    "blocks.*.mixer.out": "blk.*.attn_output",
    "blocks.*.feed_norms.before": "blk.*.ffn_norm",
    "blocks.*.feed.up": "blk.*.ffn_up",
    "blocks.*.feed.down": "blk.*.ffn_down",
}


def spec(fields: Fields) -> Decoder:
    if fields.flag("add_cross_attention", False):
        fields.refuse("add_cross_attention", "a decoder that also reads an encoder is not known here")
    norm = LayerNorm(eps=fields.number("layer_norm_epsilon", 1e-5))
    dim, drop = fields.count("n_embd", 768), fields.number("resid_pdrop", 0.1)
    feed = Plain(
        hidden=fields.count("n_inner", 4 * dim),
        activation=fields.choice("activation_function", ALIASES, "gelu_new"),
        bias=True,
    )
    blocks = [Block(mixer=mixer, feed=feed, before=norm, dropout=drop) for mixer in mixers(fields, dim)]
    length = fields.count("n_positions", 1024)
    return Decoder(
        vocab=fields.count("vocab_size", 50257),
        dim=dim,
        blocks=tuple(blocks),
        length=length,
        norm=norm,
        positions=Learned(length=length),
        tied=fields.flag("tie_word_embeddings", True),
        dropout=fields.number("embd_pdrop", 0.1),
    )


def mixers(fields: Fields, dim: int) -> list[GroupedQuery]:
    """One for each layer: they differ where the scale falls with depth."""
    heads = fields.count("n_head", 12, most=2**16)
    if dim % heads:
        fields.refuse("n_head", f"{heads} heads do not divide n_embd {dim}")
    falling = fields.flag("scale_attn_by_inverse_layer_idx", False)
    scale = (dim // heads) ** -0.5 if fields.flag("scale_attn_weights", True) else 1.0
    usual = (dim // heads) ** -0.5
    scales = [scale / (layer + 1) if falling else scale for layer in range(fields.count("n_layer", 12, most=1024))]
    drop = fields.number("attn_pdrop", 0.1)
    return [
        GroupedQuery(
            heads=heads,
            kv_heads=heads,
            head_dim=dim // heads,
            scale=None if scale == usual else scale,
            bias=True,
            out_bias=True,
            dropout=drop,
        )
        for scale in scales
    ]


def config(spec: Decoder) -> dict[str, Any]:
    found, feed = outline.mixers(spec), spec.blocks[0].feed
    if not isinstance(feed, Plain) or not isinstance(spec.norm, LayerNorm):
        raise BadInput("a feed is not Plain, or the last norm is not LayerNorm", field="Decoder.blocks")
    usual = found[0].head_dim ** -0.5
    last = found[-1].scale or usual
    return {
        "vocab_size": spec.vocab,
        "n_embd": spec.dim,
        "n_layer": len(spec.blocks),
        "n_head": found[0].heads,
        "n_positions": spec.length,
        "n_inner": feed.hidden,
        "activation_function": "gelu_new" if feed.activation == "gelu_tanh" else feed.activation,
        "layer_norm_epsilon": spec.norm.eps,
        "resid_pdrop": spec.blocks[0].dropout,
        "embd_pdrop": spec.dropout,
        "attn_pdrop": found[0].dropout,
        "tie_word_embeddings": spec.tied,
        "scale_attn_weights": (found[0].scale or usual) == usual,
        "scale_attn_by_inverse_layer_idx": last != (found[0].scale or usual),
    }


GPT2 = Architecture(
    model_type="gpt2",
    made_by="GPT2LMHeadModel",
    prefix="transformer.",
    names=NAMES,
    spec=spec,
    config=config,
    gguf="gpt2",
    gguf_names=GGUF_NAMES,
)
