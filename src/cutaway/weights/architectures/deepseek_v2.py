"""DeepSeek-V2: latent attention, and mixtures of experts behind the first layers.

DeepSeek-AI 2024 (arXiv 2405.04434): latents, section 2.1; experts in groups and shared ones, section 2.2.
The norms of latents have an eps of their own, 1e-6 whatever config.json says.
Read next: weights/architectures/deepseek_v3.py, nn/attention/latent.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.latent import Latent
from cutaway.nn.block import Block
from cutaway.nn.experts.groups import Groups
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SoftmaxTopK
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.ops.activation import ALIASES
from cutaway.weights.architectures import outline, sparse
from cutaway.weights.architectures.architecture import Architecture
from cutaway.weights.architectures.rotation import write_rope
from cutaway.weights.fields import LAYERS, Fields

WIDEST = 2**16  # heads, and numbers of one head
METHODS = ("greedy", "group_limited_greedy")

_ATTENTION, _FEED = "model.layers.*.self_attn", "model.layers.*.mlp"
DENSE_NAMES = {
    "embedding": "model.embed_tokens",
    "norm": "model.norm",
    "head": "lm_head",
    "blocks.*.mixer_norms.before": "model.layers.*.input_layernorm",
    "blocks.*.mixer.query": f"{_ATTENTION}.q_proj",
    "blocks.*.mixer.query_down": f"{_ATTENTION}.q_a_proj",
    "blocks.*.mixer.query_norm": f"{_ATTENTION}.q_a_layernorm",
    "blocks.*.mixer.query_up": f"{_ATTENTION}.q_b_proj",
    "blocks.*.mixer.down": f"{_ATTENTION}.kv_a_proj_with_mqa",
    "blocks.*.mixer.norm": f"{_ATTENTION}.kv_a_layernorm",
    "blocks.*.mixer.up": f"{_ATTENTION}.kv_b_proj",
    "blocks.*.mixer.out": f"{_ATTENTION}.o_proj",
    "blocks.*.feed_norms.before": "model.layers.*.post_attention_layernorm",
    "blocks.*.feed.gate": f"{_FEED}.gate_proj",
    "blocks.*.feed.up": f"{_FEED}.up_proj",
    "blocks.*.feed.down": f"{_FEED}.down_proj",
    "blocks.*.feed.shared.gate": f"{_FEED}.shared_experts.gate_proj",
    "blocks.*.feed.shared.up": f"{_FEED}.shared_experts.up_proj",
    "blocks.*.feed.shared.down": f"{_FEED}.shared_experts.down_proj",
}


def latent(fields: Fields, longest: int, *, interleaved: bool = True) -> Latent:
    """The mixer of every layer. `longest`: the architecture's own limit."""
    heads = fields.count("num_attention_heads", most=WIDEST)
    if fields.count("num_key_value_heads", heads) != heads:
        fields.refuse("num_key_value_heads", f"latents make keys and values for all of {heads} heads, no fewer")
    turned = fields.count("qk_rope_head_dim", 64, most=WIDEST)
    if turned % 2:
        fields.refuse("qk_rope_head_dim", f"{turned} numbers cannot rotate: they come in pairs")
    alone = fields.says("q_lora_rank") and fields.get("q_lora_rank", None) is None  # null is not absence
    bias = fields.flag("attention_bias", False)
    return Latent(
        heads=heads,
        rank=fields.count("kv_lora_rank", 512),
        head_dim=fields.count("qk_nope_head_dim", 128, most=WIDEST),
        value_dim=fields.count("v_head_dim", 128, most=WIDEST),
        query_rank=None if alone else fields.count("q_lora_rank", 1536),
        rope=replace(outline.rope(fields, turned, longest), interleaved=interleaved),
        norm=RMSNorm(eps=1e-6),
        bias=bias,
        out_bias=bias,
        dropout=outline.dropout(fields),
    )


def assembled(
    fields: Fields, mixer: Latent, mixed: Callable[[], Experts], *, dense: int, longest: int, bias: bool = False
) -> Decoder:
    """The decoder whose layers are mixtures from the `dense`th on, if nothing else is said."""
    told, layers, norm = fields.get("first_k_dense_replace", dense), outline.layers(fields), outline.rms_norm(fields)
    if isinstance(told, bool) or not isinstance(told, int) or not 0 <= told <= LAYERS:
        fields.refuse("first_k_dense_replace", f"must be a whole number from 0 to {LAYERS}")
    first, blocks = min(told, layers), []
    if first > 0:
        blocks += [Block(mixer=mixer, feed=outline.gated(fields, bias=bias), before=norm)] * first
    if first < layers:
        blocks += [Block(mixer=mixer, feed=mixed(), before=norm)] * (layers - first)
    return Decoder(
        vocab=fields.count("vocab_size"),
        dim=fields.count("hidden_size"),
        blocks=tuple(blocks),
        length=outline.length(fields, longest),
        norm=norm,
        tied=fields.flag("tie_word_embeddings", False),
    )


def feeds(fields: Fields, *, experts: int, shared: int, hidden: int, bias: bool = False) -> dict[str, Any]:
    """A mixture's experts, those that all tokens share as one. The arguments are the architecture's own numbers."""
    if fields.get("moe_layer_freq", 1) != 1:
        fields.refuse("moe_layer_freq", "only 1 is known for this architecture")
    width = fields.count("moe_intermediate_size", hidden)
    joint = width * fields.count("n_shared_experts", shared, most=WIDEST)
    activation = fields.choice("hidden_act", ALIASES, "silu")
    return {
        "count": sparse.experts(fields, ("n_routed_experts",), outline.layers(fields), experts),
        "expert": Gated(hidden=width, activation=activation),
        "shared": Gated(hidden=joint, activation=activation, bias=bias),
    }


def spec(fields: Fields) -> Decoder:
    bias = fields.flag("mlp_bias", False)

    def mixed() -> Experts:
        if fields.get("scoring_func", "softmax") != "softmax":
            fields.refuse("scoring_func", 'only "softmax" is known for this architecture')
        if fields.flag("norm_topk_prob", False):
            fields.refuse("norm_topk_prob", "programs disagree about what true means here, and no DeepSeek-V2 says it")
        grouped = fields.choice("topk_method", dict(zip(METHODS, (False, True), strict=True)), "greedy")
        groups = Groups(count=fields.count("n_group"), top_k=fields.count("topk_group")) if grouped else None
        router = SoftmaxTopK(
            top_k=fields.count("num_experts_per_tok"),
            scale=fields.number("routed_scaling_factor", 1.0),
            groups=groups,
        )
        return Experts(router=router, **feeds(fields, experts=64, shared=2, hidden=1407, bias=bias))

    return assembled(fields, latent(fields, 2048), mixed, dense=0, longest=2048, bias=bias)


def write(spec: Decoder) -> tuple[dict[str, Any], Experts | None]:
    """The fields that V2 and V3 share, and the mixture, if any. Raises BadInput for what neither can hold."""
    mixer, norm = spec.blocks[0].mixer, spec.norm
    found = [block.feed for block in spec.blocks if isinstance(block.feed, Experts)]
    dense = [block.feed for block in spec.blocks if isinstance(block.feed, Gated)]
    if not isinstance(mixer, Latent) or not isinstance(norm, RMSNorm) or len(found) + len(dense) != len(spec.blocks):
        said = "a mixer is not Latent, the last norm is not RMSNorm, or a feed is neither Gated nor Experts"
        raise BadInput(said, field="Decoder.blocks")
    plain = (dense or [found[0].expert])[0]
    written = {
        "vocab_size": spec.vocab,
        "hidden_size": spec.dim,
        "num_hidden_layers": len(spec.blocks),
        "num_attention_heads": mixer.heads,
        "num_key_value_heads": mixer.heads,
        "q_lora_rank": mixer.query_rank,
        "kv_lora_rank": mixer.rank,
        "qk_nope_head_dim": mixer.head_dim,
        "qk_rope_head_dim": mixer.rope.width,
        "v_head_dim": mixer.value_width,
        "intermediate_size": plain.hidden,
        "hidden_act": outline.written(plain.activation),
        "rms_norm_eps": norm.eps,
        "max_position_embeddings": spec.length,
        "tie_word_embeddings": spec.tied,
        "attention_dropout": mixer.dropout,
        "attention_bias": mixer.bias,
        "first_k_dense_replace": len(dense),
        **write_rope(mixer.rope),
    }
    if not found:
        return written, None
    mixed = found[0]
    if mixed.shared is None or mixed.shared.hidden % mixed.expert.hidden:
        raise BadInput("shared experts are no whole number of experts wide", field="Experts.shared")
    groups = mixed.router.groups
    return written | {
        "moe_intermediate_size": mixed.expert.hidden,
        "n_routed_experts": mixed.count,
        "n_shared_experts": mixed.shared.hidden // mixed.expert.hidden,
        "num_experts_per_tok": mixed.router.top_k,
        "n_group": 1 if groups is None else groups.count,
        "topk_group": 1 if groups is None else groups.top_k,
    }, mixed


def config(spec: Decoder) -> dict[str, Any]:
    written, mixed = write(spec)
    feed = spec.blocks[0].feed if mixed is None else mixed.shared
    written["mlp_bias"] = isinstance(feed, Gated) and feed.bias
    if mixed is None:
        return written
    if not isinstance(mixed.router, SoftmaxTopK):
        raise BadInput("a router is not SoftmaxTopK", field="Experts.router")
    return written | {
        "routed_scaling_factor": mixed.router.scale,
        "topk_method": METHODS[mixed.router.groups is not None],
        "norm_topk_prob": False,
    }


DEEPSEEK_V2 = Architecture(
    model_type="deepseek_v2",
    made_by="DeepseekV2ForCausalLM",
    prefix="model.",
    names=DENSE_NAMES | sparse.EXPERT_NAMES,
    stacked_names=DENSE_NAMES | sparse.STACKED_NAMES,
    spec=spec,
    config=config,
)
