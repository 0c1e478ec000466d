"""A part stands wherever the model calls it, and the model it was put in stays what it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.infer.language import Language
from cutaway.infer.load import load
from cutaway.infer.save import save
from cutaway.lab.swap.child import _opened
from cutaway.lab.swap.fitting import fitted
from cutaway.lab.swap.table import PARTS
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.block_sparse import BlockSparse
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.attention.latent import Latent
from cutaway.nn.block import Block
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SigmoidTopK
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.ops.forms import FAST, READABLE, attended
from cutaway.ops.tiled import attend_tiled
from cutaway.recipes.nano import small

IDS = torch.arange(1, 8)[None]


def logits(language: Language) -> torch.Tensor:
    with torch.no_grad():
        return language(IDS)


@pytest.mark.parametrize("part", ["ops.attend", "ops.rotate", "ops.rms_norm", "ops.gate"])
def test_a_function_stands_wherever_it_is_called(language, part):
    calls, right = [], getattr(FAST, PARTS[part].place)

    def mine(*given, **told):
        calls.append(part)
        return right(*given, **told)

    swapped, places = fitted(language, PARTS[part], mine)
    torch.testing.assert_close(logits(swapped), logits(language))
    assert len(calls) == places >= len(language.spec.blocks)
    doubled, _ = fitted(language, PARTS[part], lambda *given, **told: 2 * right(*given, **told))
    assert not torch.allclose(logits(doubled), logits(language))


@pytest.mark.parametrize("part", ["nn.grouped", "nn.gated", "nn.rms_norm"])
def test_a_module_takes_over_the_weights(language, part):
    before, ours = logits(language), PARTS[part].ours

    class Mine(ours):
        pass

    swapped, places = fitted(language, PARTS[part], Mine)
    torch.testing.assert_close(logits(swapped), before)
    assert sum(type(one) is Mine for one in swapped.module.modules()) == places >= len(language.spec.blocks)
    assert not any(type(one) is Mine for one in language.module.modules())


@pytest.mark.parametrize("part", ["nn.grouped", "nn.gated", "nn.rms_norm"])
def test_a_module_stands_in_a_packed_model_too(part, tmp_path):
    whole = Language(small(vocab=96, layers=2, heads=2, dim=64, hidden=96, length=16).build(), source="tiny")
    save(whole, tmp_path / "small.gguf", quant="q4_0")
    packed = load(tmp_path / "small.gguf", device="cpu")
    assert isinstance(packed, Language)
    readable = Language(packed.module, forms=READABLE)
    swapped, _ = fitted(packed, PARTS[part], PARTS[part].ours)
    # Unpacked numbers are those that the packed product multiplies; it rounds its sums to bfloat16, or less.
    torch.testing.assert_close(logits(swapped), logits(readable), atol=3e-2, rtol=3e-2)


@pytest.mark.parametrize("part", ["ops.rms_norm", "nn.gated", "nn.grouped", "infer.choose"])
def test_all_but_the_part_stays_as_it_was(language, part):
    """The attention that was named among it."""
    calls = []

    def watched(*given, **told):
        calls.append(part)
        return attend_tiled(*given, **told)

    told = Language(language.module, forms=replace(FAST, attend=watched), source="tiny")
    right = getattr(FAST, PARTS[part].place or "", PARTS[part].ours)
    swapped, _ = fitted(told, PARTS[part], right)
    torch.testing.assert_close(logits(swapped), logits(language))
    assert calls


def test_the_model_is_opened_with_the_attention_that_was_named(tmp_path):
    whole = Language(small(vocab=96, layers=1, heads=2, dim=64, hidden=96, length=16).build(), source="tiny")
    save(whole, tmp_path / "small")
    for name in ("tiled", None):
        assert _opened(str(tmp_path / "small"), name).forms == attended(name)


def test_a_sampler_chooses(language):
    swapped, _ = fitted(language, PARTS["infer.choose"], lambda logits_V, decoding, draw, seen: 5)
    assert swapped.generate([1, 2], max_tokens=3).tokens == (5, 5, 5)


@pytest.mark.parametrize(("part", "said"), [("ops.layer_norm", "never calls layer_norm"), ("nn.plain", "no PlainFeed")])
def test_a_model_without_a_place_is_refused(language, part, said):
    with pytest.raises(BadInput, match=f"tiny: .*{said}"):
        fitted(language, PARTS[part], PARTS[part].ours)


ROPE = Rope(width=4, interleaved=True)
KINDS = {
    "nn.latent": Block(mixer=Latent(heads=2, rank=8, head_dim=8, rope=ROPE), feed=Gated(hidden=32), before=RMSNorm()),
    "nn.experts": Block(
        mixer=GroupedQuery(heads=2, kv_heads=1, head_dim=8, rope=ROPE),
        feed=Experts(count=4, expert=Gated(hidden=8), router=SigmoidTopK(top_k=2)),
        before=RMSNorm(),
    ),
    "nn.block_sparse": Block(
        mixer=BlockSparse(heads=2, kv_heads=1, head_dim=8, block=4, seen=((0,), (0, 1))),
        feed=Gated(hidden=32),
        before=RMSNorm(),
    ),
}


@pytest.mark.parametrize("part", KINDS)
def test_other_decoders_take_parts_too(part):
    spec = Decoder(vocab=16, dim=16, blocks=(KINDS[part],) * 2, norm=RMSNorm(), length=8)
    language = Language(spec.build(), source="tiny")
    swapped, places = fitted(language, PARTS[part], PARTS[part].ours)
    assert places == 2
    torch.testing.assert_close(logits(swapped), logits(language))
    with pytest.raises(BadInput, match=r"nothing to put nn\.plain"):
        fitted(language, PARTS["nn.plain"], PARTS["nn.plain"].ours)
