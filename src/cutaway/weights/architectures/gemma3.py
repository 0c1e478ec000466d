"""Gemma 3 (text): a norm on each head's query and key, five layers with a window to one without, two rotations.

Gemma team 2025 (arXiv 2503.19786).   Layers with a window rotate from a lower base, and are never stretched.
Departure: of the models that also read pictures only the text half is read.
Read next: weights/architectures/gpt2.py
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.positions import Rope
from cutaway.weights.architectures import gemma2, outline
from cutaway.weights.architectures.architecture import Architecture
from cutaway.weights.architectures.place import Place
from cutaway.weights.architectures.rotation import read_scaling, whole, write_scaling
from cutaway.weights.fields import Fields

LONGEST = 131_072
FAR, NEAR = 1_000_000.0, 10_000.0  # bases of the two rotations
NAMES = gemma2.NAMES | {
    "blocks.*.mixer.query_norm": "model.layers.*.self_attn.q_norm",
    "blocks.*.mixer.key_norm": "model.layers.*.self_attn.k_norm",
}
GGUF_NAMES = gemma2.GGUF_NAMES | {
    "blocks.*.mixer.query_norm": Place(name="blk.*.attn_q_norm", added=1.0),
    "blocks.*.mixer.key_norm": Place(name="blk.*.attn_k_norm", added=1.0),
}


def spec(fields: Fields) -> Decoder:
    if fields.get("attn_logit_softcapping", None) is not None:
        fields.refuse("attn_logit_softcapping", "Gemma 3 has no cap on its scores: null is expected")
    sizes = outline.heads(fields, kv_heads=4, head_dim=256)
    far, near = ropes(fields, sizes["head_dim"])
    full = GroupedQuery(
        **sizes,
        rope=far,
        head_norm=outline.rms_norm(fields, offset=1.0),
        **gemma2.projection(fields, sizes["head_dim"]),
    )
    local = replace(full, rope=near, window=outline.window(fields, LONGEST))
    count, every = outline.layers(fields), fields.count("sliding_window_pattern", 6)
    kinds = fields.names("layer_types", (outline.FULL, outline.SLIDING), count)
    kinds = kinds or tuple(outline.SLIDING if (layer + 1) % every else outline.FULL for layer in range(count))
    made = gemma2.decoder(fields, [local if kind == outline.SLIDING else full for kind in kinds], LONGEST)
    return replace(made, softcap=fields.number("final_logit_softcapping", None))


def ropes(fields: Fields, head_dim: int) -> tuple[Rope, Rope]:
    """The rotations of layers that see all and of those with a window, from either spelling."""
    if head_dim % 2:
        fields.refuse("head_dim", f"a head of {head_dim} dims cannot rotate: the number must be even")
    whole(fields)
    nothing = Fields({}, fields.source)
    told = fields.inner("rope_parameters") or nothing
    if told.says("rope_type"):
        told.refuse("rope_type", "Gemma 3 has one object for each kind of layer here")
    far, near = told.inner(outline.FULL) or nothing, told.inner(outline.SLIDING) or nothing
    stretched = fields.inner("rope_scaling") or far
    longest = outline.length(fields, LONGEST)
    return (
        Rope(
            theta=far.number("rope_theta", fields.number("rope_theta", FAR)),
            width=head_dim,
            scaling=read_scaling(stretched, longest, fields),
        ),
        Rope(
            theta=near.number("rope_theta", fields.number("rope_local_base_freq", NEAR)),
            width=head_dim,
            scaling=read_scaling(near, longest, fields),
        ),
    )


def config(spec: Decoder) -> dict[str, Any]:
    mixers = outline.mixers(spec)
    far = next((one.rope for one in mixers if one.window is None), None) or Rope(theta=FAR, width=mixers[0].head_dim)
    near = next((one.rope for one in mixers if one.window is not None), None)
    return (
        outline.write(spec)
        | gemma2.written(spec, mixers[0])
        | {"rope_theta": far.theta, "rope_scaling": write_scaling(far)}
        | {"rope_local_base_freq": near.theta if near else NEAR}
    )


GEMMA3 = Architecture(
    model_type="gemma3_text",
    made_by="Gemma3ForCausalLM",
    prefix="model.",
    names=NAMES,
    spec=spec,
    config=config,
    gguf="gemma3",
    gguf_names=GGUF_NAMES,
)


def spec_within(fields: Fields) -> Decoder:
    """The text half of a model that also reads pictures."""
    text = fields.inner("text_config")
    return spec(text) if text is not None else fields.refuse("text_config", "this field is missing")


def no_config(spec: Decoder) -> dict[str, Any]:
    raise BadInput("is written as gemma3_text, without pictures", field="Decoder")


WITH_PICTURES = Architecture(
    model_type="gemma3",
    made_by="Gemma3ForConditionalGeneration",
    prefix="language_model.",
    names={ours: f"language_model.{held}" for ours, held in NAMES.items()},
    spec=spec_within,
    config=no_config,
    passed_over=("vision_tower.", "multi_modal_projector."),
)
