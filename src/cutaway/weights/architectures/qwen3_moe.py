"""Qwen3-MoE: a Qwen3 whose feeds are mixtures of many small experts, in all layers or some.

Yang et al. 2025 (arXiv 2505.09388), section 2.   Read next: nn/experts/mixture.py
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SoftmaxTopK
from cutaway.nn.feedforward import Gated
from cutaway.weights.architectures import outline, qwen3, sparse
from cutaway.weights.architectures.architecture import Architecture
from cutaway.weights.fields import LAYERS, Fields

LONGEST = 32_768


def spec(fields: Fields) -> Decoder:
    sizes, norm, layers = outline.heads(fields, kv_heads=4), outline.rms_norm(fields), outline.layers(fields)
    bias = fields.flag("attention_bias", False)
    mixer = GroupedQuery(
        **sizes,
        rope=outline.rope(fields, sizes["head_dim"], LONGEST),
        window=outline.window(fields, LONGEST) if fields.flag("use_sliding_window", False) else None,
        head_norm=norm,
        bias=bias,
        out_bias=bias,
        dropout=outline.dropout(fields),
    )
    dense = Block(mixer=mixer, feed=outline.gated(fields), before=norm)
    router = SoftmaxTopK(top_k=fields.count("num_experts_per_tok", 8), renormalise=fields.flag("norm_topk_prob", False))
    mixed = Experts(
        count=sparse.experts(fields, ("num_experts", "num_local_experts"), layers, 128),
        expert=Gated(hidden=fields.count("moe_intermediate_size", 768), activation=outline.gated(fields).activation),
        router=router,
    )
    kept = dense_layers(fields)
    step = fields.count("decoder_sparse_step", 1, most=LAYERS)
    blocks = [dense if layer in kept or (layer + 1) % step else replace(dense, feed=mixed) for layer in range(layers)]
    return Decoder(
        vocab=fields.count("vocab_size"),
        dim=fields.count("hidden_size"),
        blocks=tuple(blocks),
        length=outline.length(fields, LONGEST),
        norm=norm,
        tied=fields.flag("tie_word_embeddings", False),
    )


def dense_layers(fields: Fields) -> frozenset[int]:
    """`mlp_only_layers`: the layers whose feed is a plain gated one."""
    told = fields.get("mlp_only_layers", [])
    if not isinstance(told, list) or not all(type(one) is int and 0 <= one < LAYERS for one in told):
        fields.refuse("mlp_only_layers", "expected a list of numbers of layers")
    return frozenset(told)


def config(spec: Decoder) -> dict[str, Any]:
    feed = sparse.feeds(spec)[0]
    if not isinstance(feed.router, SoftmaxTopK):
        raise BadInput("a router is not SoftmaxTopK", field="Experts.router")
    dense = [layer for layer, block in enumerate(spec.blocks) if not isinstance(block.feed, Experts)]
    written, window = outline.write(sparse.as_dense(spec)), outline.write_windows(spec)["sliding_window"]
    if dense and isinstance(kept := spec.blocks[dense[0]].feed, Gated):
        written["intermediate_size"] = kept.hidden
    return written | {
        "sliding_window": window,
        "use_sliding_window": window is not None,
        "mlp_only_layers": dense,
        "decoder_sparse_step": 1,
        "num_experts": feed.count,
        "moe_intermediate_size": feed.expert.hidden,
        "num_experts_per_tok": feed.router.top_k,
        "norm_topk_prob": feed.router.renormalise,
    }


QWEN3_MOE = Architecture(
    model_type="qwen3_moe",
    made_by="Qwen3MoeForCausalLM",
    prefix="model.",
    names=qwen3.NAMES | sparse.EXPERT_NAMES,
    stacked_names=qwen3.NAMES | sparse.STACKED_NAMES,
    spec=spec,
    config=config,
)
