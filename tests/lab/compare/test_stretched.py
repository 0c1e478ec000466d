from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.lab.compare.stretched import VARIANTS, WINDOWED, Sizes, lengthened, rebuilt, scaled, variant, windowed
from cutaway.models.decoder import Decoder
from cutaway.nn.alibi import Alibi
from cutaway.nn.attention.block_sparse import BlockSparse, mask
from cutaway.nn.attention.latent import Latent
from cutaway.nn.context import Context
from cutaway.nn.linear import Linear
from cutaway.nn.positions import Rope
from cutaway.nn.quantised import QuantisedLinear
from cutaway.nn.rope_scaling import DynamicNtk, LinearScaling, Llama3Scaling, Yarn
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.packed import Packed

SIZES = Sizes(trained=16, context=64, window=10, sinks=2)


def with_mixers(spec: Decoder, *mixers) -> Decoder:
    return replace(spec, blocks=tuple(replace(spec.blocks[0], mixer=mixer) for mixer in mixers))


def logits(module: torch.nn.Module, tokens: int = 40) -> torch.Tensor:
    ids_N = torch.randint(96, (tokens,), generator=torch.Generator().manual_seed(1))
    return module(ids_N, Context.of((tokens,), prompts=(tokens,)))[0]


def test_what_sees_everything_is_stretched_or_narrowed_and_what_has_a_window_is_left(spec):
    stretched = variant(spec, "yarn", SIZES)
    assert stretched is not None
    ropes = [block.mixer.rope.scaling for block in stretched.blocks]
    assert ropes == [None, None, Yarn(factor=4.0, original_length=16), None]
    narrowed = variant(spec, "window+sinks", SIZES)
    assert narrowed is not None
    assert [(block.mixer.window, block.mixer.sinks) for block in narrowed.blocks] == [(4, 0), (4, 0), (10, 2), (4, 0)]


def test_each_name_is_its_own_scaling(spec):
    far = with_mixers(spec, spec.blocks[2].mixer)
    found = {name: variant(far, name, SIZES) for name in VARIANTS}
    assert {name: made.blocks[0].mixer.rope.scaling for name, made in found.items() if made} == {
        "as-is": None,
        "linear": LinearScaling(factor=4.0),
        "dynamic-ntk": DynamicNtk(factor=4.0, original_length=16),
        "yarn": Yarn(factor=4.0, original_length=16),
        "llama3": Llama3Scaling(factor=4.0, original_length=16),
        "window": None,
        "window+sinks": None,
    }
    assert Sizes(trained=64, context=32, window=1, sinks=1).factor == 1.0, "nothing to squeeze"


def test_where_all_have_a_window_all_are_changed(spec):
    near = with_mixers(spec, spec.blocks[0].mixer, spec.blocks[0].mixer)
    made = scaled(near, LinearScaling(factor=2.0))
    assert made is not None and all(block.mixer.rope.scaling for block in made.blocks)


def test_a_model_takes_what_it_can(spec):
    far = spec.blocks[2].mixer
    sloped = with_mixers(spec, replace(far, rope=None, alibi=Alibi()))
    latent = with_mixers(spec, Latent(heads=2, rank=4, head_dim=4, rope=Rope(width=4)))

    def able(value: Decoder) -> list[str]:
        return [name for name in VARIANTS if variant(value, name, SIZES) is not None]

    assert able(sloped) == ["as-is", *WINDOWED]
    assert able(latent) == [name for name in VARIANTS if name not in WINDOWED]
    by_prompt = with_mixers(
        spec, replace(far, rope=replace(far.rope, scaling=DynamicNtk(factor=2.0, original_length=8)))
    )
    assert windowed(by_prompt, 8, 1) is None and windowed(by_prompt, 8) is not None
    with_sinks = with_mixers(spec, replace(far, window=8, sinks=1))
    assert scaled(with_sinks, DynamicNtk(factor=2.0, original_length=8)) is None


def test_longer_texts_need_positions(spec, older):
    assert lengthened(spec, 128).length == 128 and lengthened(spec, 8).length == spec.length
    assert lengthened(older, 16) == older
    with pytest.raises(BadInput, match="16 of them: none for 17"):
        lengthened(older, 17)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"window": 63}, "window"), ({"window": 0}, "window"), ({"sinks": 0}, "sinks"), ({"trained": 0}, "trained")],
)
def test_impossible_sizes_are_refused(wrong, field):
    with pytest.raises(BadInput, match=rf"Sizes\.{field}"):
        replace(SIZES, **wrong)


@torch.no_grad()
def test_a_model_is_rebuilt_around_the_same_weights(spec):
    module = spec.build().eval()
    same = rebuilt(module, spec)
    assert {id(one) for one in same.parameters()} == {id(one) for one in module.parameters()}
    assert torch.equal(logits(same), logits(module))
    made = variant(spec, "linear", SIZES)
    assert made is not None and not torch.allclose(logits(rebuilt(module, made)), logits(module), atol=1e-4)
    # Looking 64 tokens back is looking at everything.
    wide = windowed(with_mixers(spec, spec.blocks[2].mixer), 64)
    assert wide is not None
    module = with_mixers(spec, spec.blocks[2].mixer).build().eval()
    assert torch.equal(logits(rebuilt(module, wide)), logits(module))


@torch.no_grad()
def test_packed_weights_and_masks_are_rebuilt_too(spec):
    sparse = BlockSparse(heads=4, kv_heads=2, head_dim=8, block=8, seen=mask(8, near=2), rope=Rope(width=8))
    value = with_mixers(spec, sparse)
    module = value.build().eval()
    for name, part in list(module.named_modules()):
        if isinstance(part, Linear) and part.weight.shape[1] % 32 == 0:
            format = FORMATS["q8_0"]
            module.set_submodule(name, QuantisedLinear(Packed(blocks=quantise(part.weight, format), format=format)))
    assert torch.equal(logits(rebuilt(module, value)), logits(module))
    made = variant(value, "yarn", SIZES)
    assert made is not None and logits(rebuilt(module, made)).isfinite().all()
