from __future__ import annotations

import json

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.distilbert.modeling_distilbert import create_sinusoidal_embeddings
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

from cutaway.base.errors import BadInput
from cutaway.base.values import from_plain, to_plain
from cutaway.lab.checks.positions import check_learned, check_sinusoidal
from cutaway.nn.context import Context
from cutaway.nn.cost import Cost
from cutaway.nn.positions import Learned, Rope, Sinusoidal
from cutaway.nn.rope_scaling import DynamicNtk, LinearScaling, Yarn


def test_learned_positions_against_their_oracle():
    check_learned(lambda length, dim: Learned(length=length).build(dim))


def test_waves_against_their_oracle():
    check_sinusoidal(lambda dim: Sinusoidal(length=7).build(dim))
    check_sinusoidal(lambda dim: Sinusoidal(length=7, interleaved=False).build(dim), interleaved=False)


def test_waves_equal_transformers():
    expected = torch.empty(50, 16)
    create_sinusoidal_embeddings(50, 16, expected)
    # float32 angles of up to 50 radians against float64 ones
    torch.testing.assert_close(Sinusoidal(length=50).build(16)(torch.arange(50)), expected, rtol=0, atol=1e-5)


def test_waves_in_halves_equal_transformers():
    # float32 angles of up to 50 radians against float64 ones
    expected = MarianSinusoidalPositionalEmbedding(50, 16).create_weight()
    waves = Sinusoidal(length=50, interleaved=False).build(16)(torch.arange(50))
    torch.testing.assert_close(waves, expected, rtol=0, atol=1e-5)


def test_costs():
    assert Learned(length=50).cost(8, 3, 3) == Cost(parameters=400)
    assert Sinusoidal(length=50).cost(8, 3, 3) == Cost()
    assert sum(p.numel() for p in Learned(length=50).build(8).parameters()) == 400


@pytest.mark.parametrize("value", [Learned(length=5), Sinusoidal(length=5)])
def test_positions_run_on_meta(value):
    with torch.device("meta"):
        module = value.build(6)
    assert module(torch.arange(4, device="meta")).is_meta


@pytest.mark.parametrize(
    ("rope", "parameters"),
    [
        (Rope(width=16, theta=5e5), {"rope_type": "default", "rope_theta": 5e5}),
        (
            Rope(width=16, scaling=LinearScaling(factor=4.0)),
            {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
        ),
        (
            Rope(width=16, scaling=Yarn(factor=4.0, original_length=64)),
            {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64},
        ),
        (
            Rope(width=16, scaling=DynamicNtk(factor=3.0, original_length=64)),
            {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 3.0},
        ),
    ],
    ids=["none", "linear", "yarn", "dynamic"],
)
@pytest.mark.parametrize("length", [10, 100])
def test_tables_equal_transformers(rope, parameters, length):
    config = LlamaConfig(
        hidden_size=64, num_attention_heads=4, max_position_embeddings=64, rope_parameters=dict(parameters)
    )
    expected_cos, expected_sin = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.arange(length)[None])
    cos, sin = rope.tables(Context.of((length,)))
    # Frequencies that differ by one float32 rounding, times positions of up to 100.
    torch.testing.assert_close(cos[:, 0], expected_cos[0], rtol=0, atol=2e-5)
    torch.testing.assert_close(sin[:, 0, 8:], expected_sin[0, :, 8:], rtol=0, atol=2e-5)
    torch.testing.assert_close(-sin[:, 0, :8], expected_sin[0, :, :8], rtol=0, atol=2e-5)
    assert cos.shape == sin.shape == (length, 1, 16)


def test_unscaled_frequencies_equal_transformers_bit_by_bit():
    config = LlamaConfig(
        hidden_size=256, num_attention_heads=4, rope_parameters={"rope_type": "default", "rope_theta": 1e5}
    )
    assert torch.equal(Rope(width=64, theta=1e5).frequencies(), LlamaRotaryEmbedding(config).inv_freq)


class Held:
    """Stands for a cache that holds tokens already."""

    def __init__(self, *lengths):
        self.lengths = lengths


def test_dynamic_ntk_keeps_the_prompts_base_while_decoding():
    rope = Rope(width=8, scaling=DynamicNtk(factor=4.0, original_length=16))
    whole = rope.tables(Context.of((40,), prompts=(30,)))
    parts = [
        rope.tables(Context.of((30,), cache=Held(0), prompts=(30,))),
        rope.tables(Context.of((10,), cache=Held(30), prompts=(30,))),
    ]
    for table, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(table, torch.cat(pieces))
    # Taking all 40 for the prompt is another base: this is the exemption.
    assert not torch.allclose(whole[0], rope.tables(Context.of((40,)))[0])


def test_dynamic_ntk_gives_each_sequence_of_a_batch_its_own_base():
    rope = Rope(width=8, scaling=DynamicNtk(factor=4.0, original_length=16))
    packed = rope.tables(Context.of((40, 5, 20)))
    alone = [rope.tables(Context.of((length,))) for length in (40, 5, 20)]
    for table, pieces in zip(packed, zip(*alone, strict=True), strict=True):
        assert torch.equal(table, torch.cat(pieces))
    assert rope.tables(Context.of(()))[0].shape == (0, 1, 8)


def test_dynamic_ntk_refuses_a_cache_without_prompt_lengths():
    rope = Rope(width=8, scaling=DynamicNtk(factor=4.0, original_length=16))
    with pytest.raises(BadInput, match=r"Context\.prompts"):
        rope.tables(Context.of((1,), cache=Held(3)))


@pytest.mark.parametrize(
    "scaling", [None, Yarn(factor=2.0, original_length=8), DynamicNtk(factor=2.0, original_length=8)]
)
@pytest.mark.parametrize("interleaved", [False, True])
def test_tables_stay_on_the_positions_device_and_in_the_asked_dtype(scaling, interleaved):
    rope = Rope(width=8, scaling=scaling, interleaved=interleaved)
    for table in rope.tables(Context.of((3, 2), device="meta"), torch.bfloat16):
        assert table.is_meta and table.dtype == torch.bfloat16 and table.shape == (5, 1, 8)


def test_equal_ropes_are_equal_and_hash_alike():
    def make():
        return Rope(width=8, scaling=Yarn(factor=2.0, original_length=8))

    assert make() == make() and hash(make()) == hash(make())
    assert make() != Rope(width=8, scaling=Yarn(factor=2.5, original_length=8))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Rope(width=7), "Rope.width"),
        (lambda: Rope(width=0), "Rope.width"),
        (lambda: Rope(width=8, theta=1.0), "Rope.theta"),
        (lambda: Rope(width=8, theta=float("nan")), "Rope.theta"),
        (lambda: Rope(width=2, scaling=DynamicNtk(factor=2.0, original_length=8)), "Rope.width"),
        (lambda: Learned(length=0), "Learned.length"),
        (lambda: Sinusoidal(length=-3), "Sinusoidal.length"),
        (lambda: Sinusoidal(length=3).build(5), "Sinusoidal.dim"),
        (lambda: Sinusoidal(length=3).check(5, 9), "Sinusoidal.dim"),
        (lambda: Learned(length=3).check(5, 4), "Learned.length"),
    ],
)
def test_impossible_positions_are_refused_naming_the_field(make, field):
    with pytest.raises(BadInput) as caught:
        make()
    assert caught.value.field == field


@pytest.mark.parametrize(
    "value",
    [
        Learned(length=5),
        Sinusoidal(length=5),
        Rope(width=8),
        Rope(width=8, theta=5e5, interleaved=True, scaling=LinearScaling(factor=2.0)),
        Rope(width=8, scaling=DynamicNtk(factor=2.0, original_length=8)),
        Rope(width=8, scaling=Yarn(factor=2.0, original_length=8, mscale=1.0, mscale_all_dim=0.5)),
    ],
)
def test_positions_come_back_from_json_equal(value):
    table = {kind.__name__: kind for kind in (Learned, Sinusoidal, Rope, LinearScaling, DynamicNtk, Yarn)}
    assert from_plain(json.loads(json.dumps(to_plain(value))), table) == value
