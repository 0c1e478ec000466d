from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.deepseek_v3.modeling_deepseek_v3 import yarn_apply_mscale

from cutaway.base.errors import BadInput
from cutaway.lab.checks.positions import check_frequencies
from cutaway.nn.positions import Rope
from cutaway.nn.rope_scaling import DynamicNtk, LinearScaling, Llama3Scaling, Yarn


def test_all_frequencies_against_the_oracle():
    check_frequencies(lambda rope, prompt: rope.frequencies(prompt=prompt))


def transformers_frequencies(kind, width, theta, length, seq_len=None, **parameters):
    config = LlamaConfig(
        hidden_size=4 * width,
        num_attention_heads=4,
        head_dim=width,
        max_position_embeddings=length,
        rope_parameters={"rope_type": kind, "rope_theta": theta, **parameters},
    )
    return ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=seq_len)


CASES = [
    ("linear", LinearScaling(factor=4.0), {"factor": 4.0}),
    (
        "llama3",
        Llama3Scaling(factor=8.0, original_length=8192),
        {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    ),
    (
        "llama3",
        Llama3Scaling(factor=32.0, original_length=256, low_frequency_factor=1.5, high_frequency_factor=2.5),
        {
            "factor": 32.0,
            "low_freq_factor": 1.5,
            "high_freq_factor": 2.5,
            "original_max_position_embeddings": 256,
        },
    ),
    ("yarn", Yarn(factor=4.0, original_length=4096), {"factor": 4.0, "original_max_position_embeddings": 4096}),
    ("yarn", Yarn(factor=1.0, original_length=4096), {"factor": 1.0, "original_max_position_embeddings": 4096}),
    (
        "yarn",
        Yarn(factor=40.0, original_length=512, beta_fast=20.0, beta_slow=2.0, truncate=False),
        {
            "factor": 40.0,
            "original_max_position_embeddings": 512,
            "beta_fast": 20.0,
            "beta_slow": 2.0,
            "truncate": False,
        },
    ),
    (
        "yarn",
        Yarn(factor=40.0, original_length=4096, mscale=1.0, mscale_all_dim=0.707),
        {"factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 1.0, "mscale_all_dim": 0.707},
    ),
    (
        "yarn",
        Yarn(factor=40.0, original_length=4096, attention_factor=1.3, mscale=1.0, mscale_all_dim=0.707),
        {
            "factor": 40.0,
            "original_max_position_embeddings": 4096,
            "attention_factor": 1.3,
            "mscale": 1.0,
            "mscale_all_dim": 0.707,
        },
    ),
]


@pytest.mark.parametrize(("kind", "scaling", "parameters"), CASES)
@pytest.mark.parametrize("width", [8, 64, 128])
@pytest.mark.parametrize("theta", [10000.0, 500000.0])
def test_frequencies_and_amplitude_equal_transformers(kind, scaling, parameters, width, theta):
    expected, amplitude = transformers_frequencies(kind, width, theta, length=4096, **parameters)
    # YaRN and Llama 3 mix in another order: a few float32 roundings of 6e-8.
    torch.testing.assert_close(
        Rope(width=width, theta=theta, scaling=scaling).frequencies(), expected, rtol=3e-7, atol=0
    )
    assert scaling.amplitude == pytest.approx(amplitude, rel=1e-12)


@pytest.mark.parametrize(
    "told", [{}, {"mscale": 1.0}, {"mscale_all_dim": 0.707}, {"mscale": 2.0, "mscale_all_dim": 1.0}]
)
@pytest.mark.parametrize("factor", [1.0, 40.0])
def test_sharpness_equals_that_of_deepseek(told, factor):
    parameters = {"rope_type": "yarn", "factor": factor, **told}
    expected = yarn_apply_mscale(parameters, 1.0)
    assert Yarn(factor=factor, original_length=4096, **told).sharpness == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("prompt", [None, 10, 1024, 1025, 4000])
@pytest.mark.parametrize("width", [8, 64])
def test_dynamic_ntk_equals_transformers_at_the_prompt_length(prompt, width):
    expected, amplitude = transformers_frequencies("dynamic", width, 10000.0, length=1024, seq_len=prompt, factor=2.0)
    scaling = DynamicNtk(factor=2.0, original_length=1024)
    torch.testing.assert_close(
        Rope(width=width, scaling=scaling).frequencies(prompt=prompt), expected, rtol=3e-7, atol=0
    )
    assert scaling.amplitude == amplitude == 1.0


def test_llama3_keeps_fast_pairs_and_divides_slow_ones_exactly():
    rope = Rope(width=128, theta=500000.0)
    plain = rope.frequencies()
    scaled = Llama3Scaling(factor=8.0, original_length=8192).frequencies(500000.0, 128)
    assert torch.equal(scaled[:8], plain[:8]) and torch.equal(scaled[-8:], plain[-8:] / 8)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: LinearScaling(factor=0.5), "LinearScaling.factor"),
        (lambda: LinearScaling(factor=float("nan")), "LinearScaling.factor"),
        (lambda: LinearScaling(factor=float("inf")), "LinearScaling.factor"),
        (lambda: DynamicNtk(factor=2.0, original_length=0), "DynamicNtk.original_length"),
        (lambda: DynamicNtk(factor=0.0, original_length=10), "DynamicNtk.factor"),
        (lambda: Llama3Scaling(factor=0.9, original_length=10), "Llama3Scaling.factor"),
        (
            lambda: Llama3Scaling(factor=8.0, original_length=10, low_frequency_factor=4.0),
            "Llama3Scaling.high_frequency_factor",
        ),
        (
            lambda: Llama3Scaling(factor=8.0, original_length=10, low_frequency_factor=0.0),
            "Llama3Scaling.high_frequency_factor",
        ),
        (lambda: Yarn(factor=0.5, original_length=10), "Yarn.factor"),
        (lambda: Yarn(factor=2.0, original_length=-1), "Yarn.original_length"),
        (lambda: Yarn(factor=2.0, original_length=10, beta_fast=1.0), "Yarn.beta_fast"),
        (lambda: Yarn(factor=2.0, original_length=10, attention_factor=0.0), "Yarn.attention_factor"),
        (lambda: Yarn(factor=2.0, original_length=10, mscale=-1.0), "Yarn.mscale"),
    ],
)
def test_impossible_scalings_are_refused_naming_the_field(make, field):
    with pytest.raises(BadInput) as caught:
        make()
    assert caught.value.field == field and "must be" in str(caught.value)
