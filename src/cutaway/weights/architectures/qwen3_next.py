"""Qwen3-Next: three layers of Gated DeltaNet to one of gated attention, mixtures of many small experts in all.

Qwen team 2025 (the model card of Qwen3-Next-80B-A3B); Gated DeltaNet: arXiv 2412.06464; gated attention: arXiv
2505.06708. A quarter of a head rotates; norms are Gemma's; a gate weighs the shared expert.
Departure: the layers that predict several tokens ahead (`mtp.`) are passed over, as transformers does.
Read next: nn/attention/gated_delta.py, weights/architectures/qwen3_moe.py
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.gated_delta import GatedDelta
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SoftmaxTopK
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.weights.architectures import outline, qwen3, qwen3_moe, sparse
from cutaway.weights.architectures.architecture import Architecture
from cutaway.weights.architectures.place import Names, Place
from cutaway.weights.architectures.rotation import write_rope
from cutaway.weights.fields import LAYERS, Fields

LONGEST = 32_768
LINEAR = "linear_attention"
WIDEST = 2**16
MIXER, SHARED = "model.layers.*.linear_attn", "model.layers.*.mlp.shared_expert"
NAMES: Names = qwen3.NAMES | {
    "blocks.*.mixer.rows": f"{MIXER}.in_proj_qkvz",
    "blocks.*.mixer.rates": f"{MIXER}.in_proj_ba",
    "blocks.*.mixer.convolution": f"{MIXER}.conv1d",
    "blocks.*.mixer.fade": f"{MIXER}.A_log",
    "blocks.*.mixer.fade_bias": f"{MIXER}.dt_bias",
    "blocks.*.mixer.norm": f"{MIXER}.norm",
    "blocks.*.feed.shared.gate": f"{SHARED}.gate_proj",
    "blocks.*.feed.shared.up": f"{SHARED}.up_proj",
    "blocks.*.feed.shared.down": f"{SHARED}.down_proj",
    "blocks.*.feed.shared_gate": f"{SHARED}_gate",
}


def spec(fields: Fields) -> Decoder:
    norm, layers = outline.rms_norm(fields, offset=1.0), outline.layers(fields)
    if outline.gated(fields).activation != "silu":
        fields.refuse("hidden_act", 'only "silu" is known for this architecture')
    dense, mixed = outline.gated(fields), _mixture(fields, layers)
    kept, step = qwen3_moe.dense_layers(fields), fields.count("decoder_sparse_step", 1, most=LAYERS)
    full, linear = _attention(fields, norm), _delta(fields)
    kinds = fields.names("layer_types", (LINEAR, outline.FULL), layers)
    every = fields.count("full_attention_interval", 4, most=LAYERS)
    kinds = kinds or tuple(LINEAR if (layer + 1) % every else outline.FULL for layer in range(layers))
    blocks = [
        Block(
            mixer=linear if kind == LINEAR else full,
            feed=dense if layer in kept or (layer + 1) % step else mixed,
            before=norm,
        )
        for layer, kind in enumerate(kinds)
    ]
    return Decoder(
        vocab=fields.count("vocab_size"),
        dim=fields.count("hidden_size"),
        blocks=tuple(blocks),
        length=outline.length(fields, LONGEST),
        norm=norm,
        tied=fields.flag("tie_word_embeddings", False),
    )


def _attention(fields: Fields, norm: RMSNorm) -> GroupedQuery:
    sizes, bias = outline.heads(fields, kv_heads=2, head_dim=256), fields.flag("attention_bias", False)
    return GroupedQuery(
        **sizes,
        rope=outline.rope(fields, sizes["head_dim"], LONGEST, part=0.25),
        head_norm=norm,
        bias=bias,
        out_bias=bias,
        dropout=outline.dropout(fields),
        gated=True,
    )


def _delta(fields: Fields) -> GatedDelta:
    heads = fields.count("linear_num_value_heads", 32, most=WIDEST)
    keys = fields.count("linear_num_key_heads", 16, most=WIDEST)
    if heads % keys:
        fields.refuse("linear_num_key_heads", f"{heads} heads cannot share {keys} key heads")
    return GatedDelta(
        heads=heads,
        key_heads=keys,
        head_dim=fields.count("linear_key_head_dim", 128, most=WIDEST),
        value_dim=fields.count("linear_value_head_dim", 128, most=WIDEST),
        kernel=fields.count("linear_conv_kernel_dim", 4, most=WIDEST),
        norm=outline.rms_norm(fields),
    )


def _mixture(fields: Fields, layers: int) -> Experts:
    return Experts(
        count=sparse.experts(fields, ("num_experts", "num_local_experts"), layers, 512),
        expert=Gated(hidden=fields.count("moe_intermediate_size", 512)),
        router=SoftmaxTopK(
            top_k=fields.count("num_experts_per_tok", 10), renormalise=fields.flag("norm_topk_prob", True)
        ),
        shared=Gated(hidden=fields.count("shared_expert_intermediate_size", 512)),
        shared_gated=True,
    )


def config(spec: Decoder) -> dict[str, Any]:
    feed, norm = sparse.feeds(spec)[0], spec.norm
    linear = next((block.mixer for block in spec.blocks if isinstance(block.mixer, GatedDelta)), None)
    full = next((block.mixer for block in spec.blocks if isinstance(block.mixer, GroupedQuery)), None)
    if linear is None or full is None or full.rope is None or not isinstance(norm, RMSNorm):
        raise BadInput("not both of GatedDelta and a GroupedQuery that rotates", field="Decoder.blocks")
    if not isinstance(feed.router, SoftmaxTopK) or feed.shared is None:
        raise BadInput("a router is not SoftmaxTopK, or no expert is shared", field="Experts")
    dense = [layer for layer, block in enumerate(spec.blocks) if not isinstance(block.feed, Experts)]
    plain = next((block.feed for block in spec.blocks if isinstance(block.feed, Gated)), feed.expert)
    return {
        "vocab_size": spec.vocab,
        "hidden_size": spec.dim,
        "intermediate_size": plain.hidden,
        "hidden_act": "silu",
        "num_hidden_layers": len(spec.blocks),
        "layer_types": [LINEAR if block.mixer == linear else outline.FULL for block in spec.blocks],
        "num_attention_heads": full.heads,
        "num_key_value_heads": full.kv_heads,
        "head_dim": full.head_dim,
        "attention_bias": full.bias,
        "attention_dropout": full.dropout,
        "partial_rotary_factor": full.rope.width / full.head_dim,
        **write_rope(full.rope),
        "linear_num_value_heads": linear.heads,
        "linear_num_key_heads": linear.key_heads,
        "linear_key_head_dim": linear.head_dim,
        "linear_value_head_dim": linear.value_width,
        "linear_conv_kernel_dim": linear.kernel,
        "rms_norm_eps": norm.eps,
        "max_position_embeddings": spec.length,
        "tie_word_embeddings": spec.tied,
        "mlp_only_layers": dense,
        "decoder_sparse_step": 1,
        "num_experts": feed.count,
        "moe_intermediate_size": feed.expert.hidden,
        "shared_expert_intermediate_size": feed.shared.hidden,
        "num_experts_per_tok": feed.router.top_k,
        "norm_topk_prob": feed.router.renormalise,
    }


def variant(spec: Decoder) -> Architecture:
    """Names of a value: which layers' output goes by which name, and how many rows a query has before its gate."""
    own: dict[str, str | Place] = {}
    for layer, block in enumerate(spec.blocks):
        if isinstance(block.mixer, GatedDelta):
            own[f"blocks.{layer}.mixer.out"] = f"model.layers.{layer}.linear_attn.out_proj"
        elif isinstance(block.mixer, GroupedQuery):
            for index, name in enumerate(("query", "gate")):
                place = Place(name="model.layers.*.self_attn.q_proj", part=(index, 2), turn=block.mixer.head_dim)
                own[f"blocks.*.mixer.{name}"] = place
    names, stacked = {**QWEN3_NEXT.names, **own}, {**(QWEN3_NEXT.stacked_names or {}), **own}
    return replace(QWEN3_NEXT, names=names, stacked_names=stacked, variant=None)


QWEN3_NEXT = Architecture(
    model_type="qwen3_next",
    made_by="Qwen3NextForCausalLM",
    prefix="model.",
    names={**NAMES, **sparse.EXPERT_NAMES},
    stacked_names={**NAMES, **sparse.STACKED_NAMES},
    passed_over=("mtp.",),
    spec=spec,
    config=config,
    variant=variant,
)
