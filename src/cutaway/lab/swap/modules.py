"""Whole modules of `nn` as parts to replace: attentions, feed-forwards, mixtures of experts and norms.

Read next: lab/swap/module_part.py, lab/swap/as_function.py, nn/attention/grouped.py
"""

from __future__ import annotations

from typing import Any

from cutaway.lab.checks.feedforward import gated_oracle, plain_oracle
from cutaway.lab.swap import attend, elementwise, norm
from cutaway.lab.swap.as_function import as_activate, as_attend, as_gate, as_layer_norm, as_rms_norm, seen_as
from cutaway.lab.swap.module_part import Kind, module_part
from cutaway.lab.swap.part import Part, Probe
from cutaway.nn.alibi import Alibi
from cutaway.nn.attention.block_sparse import BlockSparse, BlockSparseAttention
from cutaway.nn.attention.gated_delta import GatedDelta, GatedDeltaNet
from cutaway.nn.attention.grouped import GroupedQuery, GroupedQueryAttention
from cutaway.nn.attention.latent import Latent, LatentAttention
from cutaway.nn.attention.native_sparse import NativeSparse, NativeSparseAttention
from cutaway.nn.experts.mixture import Experts, ExpertsFeed
from cutaway.nn.experts.routers import SigmoidTopK, SoftmaxTopK, TopKSoftmax
from cutaway.nn.feedforward import Gated, GatedFeed, Plain, PlainFeed
from cutaway.nn.norms import LayerNorm, LayerNormModule, RMSNorm, RMSNormModule
from cutaway.nn.positions import Rope

HEADS: dict[str, Any] = {"heads": 2, "kv_heads": 2, "head_dim": 4}
FEW: dict[str, Any] = {"heads": 4, "kv_heads": 2, "head_dim": 2}
TURN = Rope(width=4)
GROUPED = Kind(
    ours=GroupedQueryAttention,
    keeps=True,
    specs={
        "heads alone": GroupedQuery(**HEADS),
        "shared kv heads": GroupedQuery(**FEW),
        "bias": GroupedQuery(**HEADS, bias=True),
        "output bias": GroupedQuery(**HEADS, out_bias=True),
        "own scale": GroupedQuery(**HEADS, scale=0.3),
        "rope": GroupedQuery(**HEADS, rope=TURN),
        "rope layout": GroupedQuery(**HEADS, rope=Rope(width=4, interleaved=True)),
        "partial rope": GroupedQuery(**HEADS, rope=Rope(width=2)),
        "head norm": GroupedQuery(**HEADS, head_norm=RMSNorm()),
        "head norm before rope": GroupedQuery(**HEADS, head_norm=RMSNorm(), rope=TURN),
        "window": GroupedQuery(**HEADS, window=2),
        "softcap": GroupedQuery(**HEADS, softcap=0.5),
    },
    rare={
        "sinks": GroupedQuery(**HEADS, window=2, sinks=1),
        "alibi": GroupedQuery(**HEADS, alibi=Alibi()),
        "output gate": GroupedQuery(**HEADS, gated=True),
    },
)
LATENT = Kind(
    ours=LatentAttention,
    keeps=True,
    turns=True,
    specs={
        "a latent": Latent(heads=2, rank=3, head_dim=2, rope=Rope(width=2, interleaved=True)),
        "query compression": Latent(heads=2, rank=3, head_dim=2, rope=Rope(width=2, interleaved=True), query_rank=3),
        "value width": Latent(heads=2, rank=3, head_dim=2, rope=Rope(width=2, interleaved=True), value_dim=1),
        "bias": Latent(heads=2, rank=3, head_dim=2, rope=Rope(width=2, interleaved=True), bias=True),
        "output bias": Latent(heads=2, rank=3, head_dim=2, rope=Rope(width=2, interleaved=True), out_bias=True),
        "own scale": Latent(heads=2, rank=3, head_dim=2, rope=Rope(width=2, interleaved=True), scale=0.9),
        "rope layout": Latent(heads=2, rank=3, head_dim=2, rope=Rope(width=4)),
    },
)
TINY: dict[str, Any] = {"heads": 4, "kv_heads": 2, "head_dim": 4}
SPARSE: dict[str, Any] = {**TINY, "block": 2, "stride": 1, "select": 2, "top_k": 3, "window": 3}
NATIVE = Kind(
    ours=NativeSparseAttention,
    keeps=True,
    specs={
        "three branches": NativeSparse(**SPARSE),
        "rope": NativeSparse(**SPARSE, rope=TURN),
        "wider blocks": NativeSparse(**{**SPARSE, "select": 4, "stride": 2}),
        "window of one": NativeSparse(**{**SPARSE, "window": 1}),
        "hidden width": NativeSparse(**SPARSE, hidden=3),
        "own scale": NativeSparse(**SPARSE, scale=0.9),
        "bias": NativeSparse(**SPARSE, bias=True),
        "output bias": NativeSparse(**SPARSE, out_bias=True),
    },
)
DELTA = Kind(
    ours=GatedDeltaNet,
    keeps=True,
    specs={
        "states": GatedDelta(heads=2, key_heads=2, head_dim=2, kernel=1),
        "convolution": GatedDelta(heads=2, key_heads=2, head_dim=2),
        "shared key heads": GatedDelta(heads=4, key_heads=2, head_dim=2, kernel=2),
        "value width": GatedDelta(heads=2, key_heads=2, head_dim=2, value_dim=3, kernel=2),
        "norm's eps": GatedDelta(heads=2, key_heads=2, head_dim=2, norm=RMSNorm(eps=0.5)),
    },
)
SEEN = ((0,), (0, 1), (0, 2), (0, 2, 3))
BLOCKS = Kind(
    ours=BlockSparseAttention,
    keeps=True,
    specs={
        "blocks": BlockSparse(**HEADS, block=2, seen=SEEN),
        "shared kv heads": BlockSparse(**FEW, block=2, seen=SEEN),
        "wider blocks": BlockSparse(**HEADS, block=3, seen=SEEN),
        "rope": BlockSparse(**HEADS, block=2, seen=SEEN, rope=TURN),
        "own scale": BlockSparse(**HEADS, block=2, seen=SEEN, scale=0.9),
        "bias": BlockSparse(**HEADS, block=2, seen=SEEN, bias=True),
        "output bias": BlockSparse(**HEADS, block=2, seen=SEEN, out_bias=True),
    },
)
FEED = Gated(hidden=3)
EXPERTS = Kind(
    ours=ExpertsFeed,
    specs={
        "softmax, then top-k": Experts(count=4, expert=FEED, router=SoftmaxTopK(top_k=2)),
        "renormalised": Experts(count=4, expert=FEED, router=SoftmaxTopK(top_k=2, renormalise=True)),
        "router's scale": Experts(count=4, expert=FEED, router=SoftmaxTopK(top_k=2, scale=2.0)),
        "top-k, then softmax": Experts(count=4, expert=FEED, router=TopKSoftmax(top_k=2)),
        "sigmoid scores": Experts(count=4, expert=FEED, router=SigmoidTopK(top_k=2)),
        "shared expert": Experts(count=4, expert=FEED, router=SoftmaxTopK(top_k=2), shared=FEED),
        "shared expert's weight": Experts(
            count=4, expert=FEED, router=SoftmaxTopK(top_k=2), shared=FEED, shared_gated=True
        ),
        "plain experts": Experts(count=4, expert=Plain(hidden=3), router=SoftmaxTopK(top_k=2)),
    },
)
GATED = Kind(
    ours=GatedFeed,
    specs={
        "silu": Gated(hidden=5),
        "bias": Gated(hidden=5, bias=True),
        "gelu": Gated(hidden=3, activation="gelu"),
        "gelu_tanh": Gated(hidden=3, activation="gelu_tanh"),
        "relu": Gated(hidden=1, activation="relu"),
    },
)
PLAIN = Kind(
    ours=PlainFeed,
    specs={
        "gelu_tanh": Plain(hidden=5, bias=False),
        "bias": Plain(hidden=5),
        "gelu": Plain(hidden=3, activation="gelu", bias=False),
        "silu": Plain(hidden=3, activation="silu", bias=False),
        "relu": Plain(hidden=1, activation="relu", bias=False),
    },
)
RMS = Kind(ours=RMSNormModule, specs={"eps": RMSNorm(eps=0.5), "weight offset": RMSNorm(offset=1.0)})
LAYER = Kind(ours=LayerNormModule, specs={"eps": LayerNorm(eps=0.5), "bias": LayerNorm(bias=False)})
# What a module is not asked: x comes in float32.
HALF = "large numbers in half precision"
FORM = {HALF, "in-place change of an input", "shape", "dtype", "same answer twice", "gradient", "lengths"}
NOT_INSIDE = FORM | {"bias", "value width", "no tokens", "both ways", "sinks", "prefix", "cache offset", "precision"}


def inside(part: Part, but: set[str] = FORM) -> tuple[Probe, ...]:
    return tuple(one for one in part.probes if one.property not in but)


PARTS = (
    module_part(
        "nn.grouped",
        "grouped-query attention as a module",
        GROUPED,
        *seen_as(as_attend, inside(attend.PART, NOT_INSIDE)),
    ),
    module_part("nn.latent", "latent attention (MLA) as a module", LATENT),
    module_part("nn.native_sparse", "native sparse attention (NSA) as a module", NATIVE),
    module_part("nn.gated_delta", "Gated DeltaNet as a module", DELTA),
    module_part("nn.block_sparse", "attention under a mask of blocks as a module", BLOCKS),
    module_part("nn.experts", "a mixture of experts as a module", EXPERTS),
    module_part(
        "nn.gated",
        "the gated feed-forward as a module",
        GATED,
        *seen_as(as_gate, inside(elementwise.GATE)),
        oracle=gated_oracle,
    ),
    module_part(
        "nn.plain",
        "the plain feed-forward as a module",
        PLAIN,
        *seen_as(as_activate, inside(elementwise.ACTIVATE)),
        oracle=plain_oracle,
    ),
    module_part("nn.rms_norm", "RMS norm as a module", RMS, *seen_as(as_rms_norm, inside(norm.RMS))),
    module_part("nn.layer_norm", "layer norm as a module", LAYER, *seen_as(as_layer_norm, inside(norm.LAYER))),
)
