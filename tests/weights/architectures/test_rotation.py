from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from cutaway.base.errors import BadInput
from cutaway.nn.positions import Rope
from cutaway.nn.rope_scaling import DynamicNtk, LinearScaling, Llama3Scaling, Scaling, Yarn
from cutaway.weights.architectures.rotation import read_rope, write_rope
from cutaway.weights.fields import Fields

WIDTH, LENGTH = 16, 64
SCALINGS = [
    None,
    LinearScaling(factor=3.0),
    DynamicNtk(factor=2.0, original_length=LENGTH),
    Llama3Scaling(factor=8.0, original_length=32, low_frequency_factor=1.0, high_frequency_factor=4.0),
    Yarn(factor=4.0, original_length=32),
    Yarn(factor=4.0, original_length=16, beta_fast=8.0, beta_slow=2.0, attention_factor=1.2, truncate=False),
    Yarn(factor=4.0, original_length=16, mscale=1.5, mscale_all_dim=0.5),
]


def read(**config: Any) -> Rope:
    fields = Fields(config, "config.json")
    return fields.told(lambda: read_rope(fields, WIDTH, LENGTH))


@pytest.mark.parametrize("scaling", SCALINGS, ids=repr)
def test_what_is_written_is_read_in_every_spelling(scaling: Scaling | None):
    rope = Rope(width=WIDTH, theta=5000.0, scaling=scaling)
    told = write_rope(rope)
    assert read(**told) == rope
    new = {**(told["rope_scaling"] or {"rope_type": "default"}), "rope_theta": 5000.0}
    assert read(rope_parameters=new) == rope
    if scaling is not None:
        old = {"type" if name == "rope_type" else name: value for name, value in told["rope_scaling"].items()}
        assert read(rope_theta=5000.0, rope_scaling=old) == rope


@pytest.mark.parametrize("scaling", SCALINGS, ids=repr)
def test_what_is_written_means_the_same_to_transformers(scaling: Scaling | None):
    rope = Rope(width=WIDTH, theta=5000.0, scaling=scaling)
    theirs = LlamaRotaryEmbedding(LlamaConfig(head_dim=WIDTH, max_position_embeddings=LENGTH, **write_rope(rope)))
    # Frequencies are at most 1; both are worked out in float32, in another order.
    torch.testing.assert_close(rope.frequencies(), theirs.inv_freq, atol=1e-7, rtol=1e-6)
    assert (1.0 if scaling is None else scaling.amplitude) == pytest.approx(theirs.attention_scaling, rel=1e-12)


def test_what_is_absent():
    assert read() == Rope(width=WIDTH, theta=10_000.0)
    assert read(rope_scaling=None, rope_parameters=None, rope_theta=None) == read()
    assert read(rope_theta=7.0, rope_parameters={"rope_type": "default"}) == Rope(width=WIDTH, theta=7.0)
    stretched = Yarn(factor=4.0, original_length=16)
    told = {"rope_type": "yarn", "factor": None}
    assert read(rope_scaling=told, original_max_position_embeddings=16).scaling == stretched
    assert read(rope_scaling={**told, "original_max_position_embeddings": 16}).scaling == stretched
    assert read(rope_scaling={**told, "factor": 4.0}).scaling == Yarn(factor=4.0, original_length=LENGTH)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"rope_scaling": {"type": "su"}}, 'rope_scaling.type: "su" is not known here'),
        ({"rope_parameters": {"rope_type": "longrope"}}, 'rope_parameters.rope_type: "longrope" is not known'),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2}}, "rope_scaling.low_freq_factor: this field is missing"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": "4"}}, "rope_scaling.factor: expected a number"),
        ({"rope_theta": 0.5}, "Rope.theta: must be above 1"),
        ({"rope_parameters": {"partial_rotary_factor": 0.25}}, "rope_parameters.partial_rotary_factor: only 1.0"),
    ],
)
def test_refusals(config, message):
    with pytest.raises(BadInput, match=rf"config\.json: {message}"):
        read(**config)
