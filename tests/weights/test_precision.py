"""Every matrix is rounded, the rest is what it was; the model that results says what its numbers say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.attention.latent import Latent
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SoftmaxTopK
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.nn.quantised import QuantisedEmbedding, QuantisedLinear
from cutaway.ops.blocks.absmax import round_absmax
from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import FORMATS, PLAIN
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.blocks.scheme import Absmax, precision_named
from cutaway.ops.forms import NAMED
from cutaway.weights.parameters import held, plain
from cutaway.weights.precision import of_a_table, packed_in, put_in

NAMES = ["int8", "int8:tensor", "int4:group=32", "int4:group=32,asymmetric", "int4", "q8_0", "q4_0", "q4_1"]
ROPE = Rope(width=8)
MIXERS = (
    GroupedQuery(heads=4, kv_heads=2, head_dim=8, rope=ROPE, bias=True),
    Latent(heads=4, rank=32, head_dim=8, rope=Rope(width=32)),
)
FEEDS = (Gated(hidden=64), Plain(hidden=64, activation="gelu", bias=True))


def decoder(tied: bool = True) -> Decoder:
    blocks = tuple(Block(mixer=mixer, feed=feed, before=RMSNorm()) for mixer, feed in zip(MIXERS, FEEDS, strict=True))
    return Decoder(vocab=64, dim=32, blocks=blocks, length=64, norm=RMSNorm(), tied=tied, head_bias=not tied)


def made(seed: int = 0, tied: bool = True) -> nn.Module:
    torch.manual_seed(seed)
    return decoder(tied).build().eval()


def rounded(weight: torch.Tensor, name: str, table: bool) -> torch.Tensor:
    """By the readable levels, or ggml's."""
    precision = of_a_table(precision_named(name)) if table else precision_named(name)
    if isinstance(precision, Absmax):
        return round_absmax(weight, precision).numbers()
    return dequantise(quantise(weight, precision), precision)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tied", [True, False])
def test_the_model_is_that_of_the_rounded_numbers(name, tied):
    module, expected = made(tied=tied), made(tied=tied)
    put_in(module, precision_named(name))
    shapes = dict(expected.named_parameters())
    for parameter_name, parameter in shapes.items():
        if parameter.ndim == 2:
            parameter.data = rounded(parameter.data, name, table=parameter_name == "embedding.weight")
        torch.testing.assert_close(plain(held(module, parameter_name)), parameter.detach(), rtol=0, atol=0)
    ids, forms = torch.randint(0, 64, (20,)), NAMED["exact"]
    with torch.no_grad():
        ours, theirs = (one(ids, Context.of((20,), forms=forms))[0] for one in (module, expected))
    # The same numbers by another product in fp32.
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_every_map_and_table_is_packed_and_nothing_else():
    module = made(tied=False)
    norms = {name: one.clone() for name, one in module.named_parameters() if "norm" in name or name.endswith("bias")}
    put_in(module, Absmax(bits=4, share=32))
    kinds = {type(part) for part in module.modules()}
    assert {QuantisedLinear, QuantisedEmbedding} <= kinds and not {"Linear", "Embedding"} & {k.__name__ for k in kinds}
    for name, before in norms.items():
        assert torch.equal(module.get_parameter(name), before)
    table = module.get_submodule("embedding").packed
    assert table.format.name == "int8" and module.get_submodule("head").packed.format.name == "int4"


def test_experts_are_rounded_too():
    feed = Experts(count=2, expert=Gated(hidden=32), router=SoftmaxTopK(top_k=1))
    module = Block(mixer=MIXERS[0], feed=feed).build(32)
    put_in(module, Absmax(bits=8, share=32))
    # Stacked matrices of experts have no packed form: what is no linear map stays.
    left = [name for name, one in module.named_parameters() if one.ndim == 2]
    assert all("feed" in name for name in left)


def test_back_to_plain_numbers_and_from_one_format_to_another():
    module = made()
    put_in(module, FORMATS["q8_0"])
    packed = {name: plain(held(module, name)) for name, one in made().named_parameters() if one.ndim == 2}
    put_in(module, PLAIN["f32"])
    for name, numbers in packed.items():
        assert torch.equal(module.get_parameter(name), numbers)
    put_in(module, PLAIN["bf16"])
    assert {one.dtype for one in module.parameters()} == {torch.bfloat16}
    put_in(module, Absmax(bits=8))
    ids = torch.randint(0, 64, (9,))
    with torch.no_grad():
        assert module(ids, Context.of((9,)))[0].dtype == torch.bfloat16


def test_rows_that_end_on_no_block_are_named():
    module = Block(mixer=GroupedQuery(heads=2, kv_heads=2, head_dim=8), feed=Gated(hidden=20)).build(16)
    with pytest.raises(BadInput, match=r"mixer\.query\.weight.*16 weights.*q4_0"):
        put_in(module, FORMATS["q4_0"])
    with pytest.raises(BadInput, match="7 columns"):
        packed_in(torch.randn(4, 7), Absmax(bits=4))


def test_numbers_that_are_none_are_refused_by_name():
    module = made()
    with torch.no_grad():
        module.get_parameter("blocks.1.mixer.out.weight")[2, 3] = torch.nan
    with pytest.raises(BadInput, match=r"blocks\.1\.mixer\.out\.weight.*not finite"):
        put_in(module, Absmax(bits=8))
