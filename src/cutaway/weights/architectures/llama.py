"""Llama 2 and 3, and the many models of the same build, SmolLM2 among them.

Touvron et al. 2023 (arXiv 2307.09288); Llama team 2024 (arXiv 2407.21783).
Read next: weights/architectures/qwen2.py
"""

from __future__ import annotations

from typing import Any

from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.weights.architectures import outline
from cutaway.weights.architectures.architecture import Architecture
from cutaway.weights.architectures.place import Place
from cutaway.weights.fields import Fields

NAMES = {
    "embedding": "model.embed_tokens",
    "norm": "model.norm",
    "head": "lm_head",
    "blocks.*.mixer_norms.before": "model.layers.*.input_layernorm",
    "blocks.*.mixer.query": "model.layers.*.self_attn.q_proj",
    "blocks.*.mixer.key": "model.layers.*.self_attn.k_proj",
    "blocks.*.mixer.value": "model.layers.*.self_attn.v_proj",
    "blocks.*.mixer.out": "model.layers.*.self_attn.o_proj",
    "blocks.*.feed_norms.before": "model.layers.*.post_attention_layernorm",
    "blocks.*.feed.gate": "model.layers.*.mlp.gate_proj",
    "blocks.*.feed.up": "model.layers.*.mlp.up_proj",
    "blocks.*.feed.down": "model.layers.*.mlp.down_proj",
}
# llama.cpp's names. Those of Llama proper hold queries and keys in the order of interleaved rotation.
GGUF_NAMES = {
    "embedding": "token_embd",
    "norm": "output_norm",
    "head": "output",
    "blocks.*.mixer_norms.before": "blk.*.attn_norm",
    "blocks.*.mixer.query": "blk.*.attn_q",
    "blocks.*.mixer.key": "blk.*.attn_k",
    "blocks.*.mixer.value": "blk.*.attn_v",
    "blocks.*.mixer.out": "blk.*.attn_output",
    "blocks.*.feed_norms.before": "blk.*.ffn_norm",
    "blocks.*.feed.gate": "blk.*.ffn_gate",
    "blocks.*.feed.up": "blk.*.ffn_up",
    "blocks.*.feed.down": "blk.*.ffn_down",
}
PAIRED_NAMES = GGUF_NAMES | {
    "blocks.*.mixer.query": Place(name="blk.*.attn_q", paired=True),
    "blocks.*.mixer.key": Place(name="blk.*.attn_k", paired=True),
}


def spec(fields: Fields) -> Decoder:
    sizes, norm = outline.heads(fields), outline.rms_norm(fields)
    bias = fields.flag("attention_bias", False)
    block = Block(
        mixer=GroupedQuery(
            **sizes,
            rope=outline.rope(fields, sizes["head_dim"]),
            bias=bias,
            out_bias=bias,
            dropout=outline.dropout(fields),
        ),
        feed=outline.gated(fields, bias=fields.flag("mlp_bias", False)),
        before=norm,
    )
    return Decoder(
        vocab=fields.count("vocab_size"),
        dim=fields.count("hidden_size"),
        blocks=(block,) * outline.layers(fields),
        length=outline.length(fields),
        norm=norm,
        tied=fields.flag("tie_word_embeddings", False),
    )


def config(spec: Decoder) -> dict[str, Any]:
    feed = spec.blocks[0].feed
    return outline.write(spec) | {"mlp_bias": isinstance(feed, Gated) and feed.bias}


LLAMA = Architecture(
    model_type="llama",
    made_by="LlamaForCausalLM",
    prefix="model.",
    names=NAMES,
    spec=spec,
    config=config,
    gguf="llama",
    gguf_names=PAIRED_NAMES,
)
