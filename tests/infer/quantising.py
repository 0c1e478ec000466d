"""Small random decoders of every family, their matrices packed in blocks: what steps on kernels are held against."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.alibi import Alibi
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.attention.latent import Latent
from cutaway.nn.block import Block
from cutaway.nn.embedding import Embedding
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SoftmaxTopK
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.linear import Linear
from cutaway.nn.norms import LayerNorm, RMSNorm
from cutaway.nn.positions import Learned, Rope
from cutaway.nn.quantised import QuantisedEmbedding, QuantisedLinear
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.packed import Packed

LLAMA = Block(
    mixer=GroupedQuery(heads=4, kv_heads=2, head_dim=32, rope=Rope(width=32)),
    feed=Gated(hidden=96),
    before=RMSNorm(eps=1e-5),
)
UNIT = RMSNorm(offset=1.0)
GEMMA = Block(
    mixer=GroupedQuery(heads=4, kv_heads=1, head_dim=48, rope=Rope(width=48), window=5, softcap=20.0, head_norm=UNIT),
    feed=Gated(hidden=64, activation="gelu_tanh"),
    before=UNIT,
    after=UNIT,
)
GATED = replace(LLAMA, mixer=replace(LLAMA.mixer, gated=True, head_norm=UNIT, rope=Rope(width=16)))
QWEN = replace(LLAMA, mixer=replace(LLAMA.mixer, bias=True, head_norm=LayerNorm()))
GPT2 = Block(
    mixer=GroupedQuery(heads=6, kv_heads=6, head_dim=16, bias=True, out_bias=True),
    feed=Plain(hidden=96, activation="gelu"),
    before=LayerNorm(),
)
MPT = replace(GPT2, mixer=GroupedQuery(heads=6, kv_heads=6, head_dim=16, alibi=Alibi()), outside=LayerNorm(bias=False))
TURNED = replace(LLAMA, mixer=replace(LLAMA.mixer, rope=Rope(width=12, interleaved=True)))
POST = replace(LLAMA, before=None, outside=RMSNorm())
SINKS = replace(GEMMA, mixer=replace(GEMMA.mixer, sinks=3))
EXPERTS = replace(LLAMA, feed=Experts(expert=Gated(hidden=32), count=4, router=SoftmaxTopK(top_k=2)))
LATENT = replace(LLAMA, mixer=Latent(heads=4, rank=32, head_dim=32, rope=Rope(width=16)))
FAMILIES = {
    "llama": (LLAMA, LLAMA),
    "gemma": (GEMMA, replace(GEMMA, mixer=replace(GEMMA.mixer, window=None))),
    "qwen": (QWEN, QWEN),
    "gpt2": (GPT2, GPT2),
    "mpt": (MPT, MPT),
    "gated": (GATED, replace(GATED, mixer=replace(GATED.mixer, bias=True))),
    "turned": (TURNED, TURNED),
    "post": (POST, POST),
    "sinks": (SINKS, GEMMA, replace(TURNED, mixer=replace(TURNED.mixer, window=4, sinks=1))),
    "experts": (LLAMA, EXPERTS, LLAMA),
    "latent": (LATENT, LLAMA),
}


def decoder(family: str, formats: tuple[str, ...] = ("q4_1",), seed: int = 0, tied: bool = True) -> DecoderModel:
    """One of the families above, of dim 64 and 96 tokens; its matrices take the formats in turn."""
    torch.manual_seed(seed)
    positions = Learned(length=128) if family == "gpt2" else None
    told = {"embedding_scale": 8.0, "softcap": 15.0} if family == "gemma" else {}
    spec = Decoder(
        vocab=96, dim=64, length=128, blocks=FAMILIES[family], norm=UNIT, positions=positions, tied=tied, **told
    )
    module = spec.build().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3 if parameter.ndim == 1 else 0.15)
    parts = [name for name, part in module.named_modules() if type(part) in (Linear, Embedding)]
    for number, name in enumerate(one for one in parts if ".router" not in one and ".experts." not in one):
        put(module, name, formats[number % len(formats)])
    return module.requires_grad_(False)


def put(module: nn.Module, name: str, form: str) -> None:
    """Packs one matrix of a module in blocks, in its place."""
    part = module.get_submodule(name)
    assert isinstance(part, Linear | Embedding)
    packed = Packed(blocks=quantise(part.weight.detach(), FORMATS[form]), format=FORMATS[form])
    if isinstance(part, Embedding):
        module.set_submodule(name, QuantisedEmbedding(packed))
    else:
        module.set_submodule(name, QuantisedLinear(packed, None if part.bias is None else part.bias.detach()))
