"""GPT-1: norms behind each sum instead of before each part, and none at the end.

Radford et al. 2018, section 4.1.   Departure: config.json's "gelu" means the tanh form here, as the model was trained.
Read next: weights/architectures/llama.py
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
from cutaway.weights.architectures import outline
from cutaway.weights.architectures.architecture import Architecture
from cutaway.weights.architectures.place import Place
from cutaway.weights.fields import Fields

ATTENTION = "transformer.h.*.attn.c_attn"
NAMES = {
    "embedding": "transformer.tokens_embed",
    "positions": "transformer.positions_embed",
    "head": "lm_head",
    "blocks.*.mixer.query": Place(name=ATTENTION, part=(0, 3), transposed=True),
    "blocks.*.mixer.key": Place(name=ATTENTION, part=(1, 3), transposed=True),
    "blocks.*.mixer.value": Place(name=ATTENTION, part=(2, 3), transposed=True),
    "blocks.*.mixer.out": Place(name="transformer.h.*.attn.c_proj", transposed=True),
    "blocks.*.mixer_norms.outside": "transformer.h.*.ln_1",
    "blocks.*.feed.up": Place(name="transformer.h.*.mlp.c_fc", transposed=True),
    "blocks.*.feed.down": Place(name="transformer.h.*.mlp.c_proj", transposed=True),
    "blocks.*.feed_norms.outside": "transformer.h.*.ln_2",
}
ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}


def spec(fields: Fields) -> Decoder:
    dim, heads = fields.count("n_embd", 768), fields.count("n_head", 12, most=2**16)
    if dim % heads:
        fields.refuse("n_head", f"{heads} heads do not divide n_embd {dim}")
    mixer = GroupedQuery(
        heads=heads,
        kv_heads=heads,
        head_dim=dim // heads,
        bias=True,
        out_bias=True,
        dropout=fields.number("attn_pdrop", 0.1),
    )
    block = Block(
        mixer=mixer,
        feed=Plain(hidden=4 * dim, activation=fields.choice("afn", ACTIVATIONS, "gelu"), bias=True),
        outside=LayerNorm(eps=fields.number("layer_norm_epsilon", 1e-5)),
        dropout=fields.number("resid_pdrop", 0.1),
    )
    length = fields.count("n_positions", 512)
    return Decoder(
        vocab=fields.count("vocab_size", 40478),
        dim=dim,
        blocks=(block,) * fields.count("n_layer", 12, most=1024),
        length=length,
        positions=Learned(length=length),
        tied=fields.flag("tie_word_embeddings", True),
        dropout=fields.number("embd_pdrop", 0.1),
    )


def config(spec: Decoder) -> dict[str, Any]:
    mixer, block = outline.mixers(spec)[0], spec.blocks[0]
    if not isinstance(block.feed, Plain) or not isinstance(block.outside, LayerNorm):
        raise BadInput("a feed is not Plain, or the norms are not LayerNorm outside", field="Decoder.blocks")
    return {
        "vocab_size": spec.vocab,
        "n_embd": spec.dim,
        "n_layer": len(spec.blocks),
        "n_head": mixer.heads,
        "n_positions": spec.length,
        "afn": next((name for name, ours in ACTIVATIONS.items() if ours == block.feed.activation), "none"),
        "layer_norm_epsilon": block.outside.eps,
        "resid_pdrop": block.dropout,
        "embd_pdrop": spec.dropout,
        "attn_pdrop": mixer.dropout,
        "tie_word_embeddings": spec.tied,
    }


OPENAI_GPT = Architecture(
    model_type="openai-gpt",
    made_by="OpenAIGPTLMHeadModel",
    prefix="transformer.",
    names=NAMES,
    spec=spec,
    config=config,
)
