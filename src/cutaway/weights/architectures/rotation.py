"""Rotary positions as config.json tells them: a base, and how it was stretched to longer texts.

Three spellings occur: `rope_theta` with `rope_scaling`; `rope_parameters`, which holds both (transformers 5); and
`rope_parameters` with one object for each kind of layer (Gemma 3). We read all and write the first, which every
version and other programs understand.

Read next: nn/positions.py
"""

from __future__ import annotations

from typing import Any

from cutaway.nn.positions import Rope
from cutaway.nn.rope_scaling import DynamicNtk, LinearScaling, Llama3Scaling, Scaling, Yarn
from cutaway.weights.fields import Fields

THETA = 10_000.0
KINDS = ("default", "linear", "dynamic", "yarn", "llama3")


def read_rope(fields: Fields, width: int, length: int, *, part: float | None = None) -> Rope:
    """One rotation for all layers. `width`: dims of a head; `length`: what the model was made for. `part`: of a head
    that rotates where the file does not say; None where all of it does and nothing else is known."""
    if part is None:
        whole(fields)
    else:
        width = partial(fields, width, part)
    told = fields.inner("rope_parameters") or Fields({}, fields.source, "rope_parameters")
    theta = told.number("rope_theta", fields.number("rope_theta", THETA))
    scaling = fields.inner("rope_scaling") or told
    theta = scaling.number("rope_theta", theta)
    return Rope(theta=theta, width=width, scaling=read_scaling(scaling, length, fields))


def whole(fields: Fields) -> None:
    """Refuses heads of which only a part rotates: the architectures here rotate all of it."""
    for place in (fields, fields.inner("rope_parameters"), fields.inner("rope_scaling")):
        if place is not None and place.number("partial_rotary_factor", 1.0) != 1.0:
            place.refuse("partial_rotary_factor", "only 1.0 is known for this architecture")


def partial(fields: Fields, width: int, default: float) -> int:
    """Dims of a head that rotate: `partial_rotary_factor` of it."""
    places = [place for place in (fields, fields.inner("rope_parameters")) if place is not None]
    place = next((one for one in places if one.says("partial_rotary_factor")), fields)
    turned = int(width * place.number("partial_rotary_factor", default))
    if not 2 <= turned <= width or turned % 2:
        place.refuse("partial_rotary_factor", f"{turned} of {width} dims cannot rotate: they come in pairs")
    return turned


def read_scaling(told: Fields, length: int, config: Fields) -> Scaling | None:
    """The scaling that an object with `rope_type` (or `type`, as it was called) describes; None for none."""
    for layers in ("full_attention", "sliding_attention"):
        if told.says(layers):
            told.refuse(layers, "a rotation for each kind of layer is not known for this architecture")
    name = "rope_type" if told.get("rope_type", None) is not None else "type"
    kind = told.choice(name, {kind: kind for kind in KINDS}, "default")
    if kind == "default":
        return None
    if kind == "linear":
        return LinearScaling(factor=told.number("factor"))
    if kind == "dynamic":
        return DynamicNtk(factor=told.number("factor"), original_length=length)
    before = told.count("original_max_position_embeddings", length, most=2**31)
    before = config.count("original_max_position_embeddings", before, most=2**31)
    if kind == "llama3":
        return Llama3Scaling(
            factor=told.number("factor"),
            original_length=before,
            low_frequency_factor=told.number("low_freq_factor"),
            high_frequency_factor=told.number("high_freq_factor"),
        )
    return Yarn(
        factor=told.number("factor", length / before),
        original_length=before,
        beta_fast=told.number("beta_fast", 32.0),
        beta_slow=told.number("beta_slow", 1.0),
        attention_factor=told.number("attention_factor", None),
        mscale=told.number("mscale", None),
        mscale_all_dim=told.number("mscale_all_dim", None),
        truncate=told.flag("truncate", True),
    )


def write_rope(rope: Rope | None) -> dict[str, Any]:
    """The fields `rope_theta` and `rope_scaling`."""
    if rope is None:
        return {}
    return {"rope_theta": rope.theta, "rope_scaling": write_scaling(rope)}


def write_scaling(rope: Rope) -> dict[str, Any] | None:
    """The object that `read_scaling` reads."""
    scaling = rope.scaling
    if scaling is None:
        return None
    if isinstance(scaling, LinearScaling):
        return {"rope_type": "linear", "factor": scaling.factor}
    if isinstance(scaling, DynamicNtk):
        return {"rope_type": "dynamic", "factor": scaling.factor}
    told = {"factor": scaling.factor, "original_max_position_embeddings": scaling.original_length}
    if isinstance(scaling, Llama3Scaling):
        low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
        return {"rope_type": "llama3", **told, "low_freq_factor": low, "high_freq_factor": high}
    for name in ("beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate"):
        if getattr(scaling, name) is not None:
            told[name] = getattr(scaling, name)
    return {"rope_type": "yarn", **told}
