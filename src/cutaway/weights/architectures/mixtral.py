"""Mixtral: a Mistral whose feeds are mixtures of experts, two of eight for each token.

Jiang et al. 2024 (arXiv 2401.04088).   Read next: weights/architectures/qwen3_moe.py
"""

from __future__ import annotations

from typing import Any

from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import TopKSoftmax
from cutaway.weights.architectures import outline, sparse
from cutaway.weights.architectures.architecture import Architecture
from cutaway.weights.architectures.llama import NAMES
from cutaway.weights.fields import Fields

LONGEST = 131_072

_EXPERT = "model.layers.*.block_sparse_moe.experts.*"


def spec(fields: Fields) -> Decoder:
    sizes, norm, layers = outline.heads(fields, kv_heads=8), outline.rms_norm(fields), outline.layers(fields)
    block = Block(
        mixer=GroupedQuery(
            **sizes,
            rope=outline.rope(fields, sizes["head_dim"], LONGEST),
            window=outline.window(fields, LONGEST, None),
            dropout=outline.dropout(fields),
        ),
        feed=Experts(
            count=sparse.experts(fields, ("num_local_experts", "num_experts"), layers, 8),
            expert=outline.gated(fields),
            router=TopKSoftmax(top_k=fields.count("num_experts_per_tok", 2)),
        ),
        before=norm,
    )
    return Decoder(
        vocab=fields.count("vocab_size"),
        dim=fields.count("hidden_size"),
        blocks=(block,) * layers,
        length=outline.length(fields, LONGEST),
        norm=norm,
        tied=fields.flag("tie_word_embeddings", False),
    )


def config(spec: Decoder) -> dict[str, Any]:
    (feed, *_), dense = sparse.feeds(spec), sparse.as_dense(spec)
    return outline.write(dense) | {
        "sliding_window": outline.write_windows(spec)["sliding_window"],
        "num_local_experts": feed.count,
        "num_experts_per_tok": feed.router.top_k,
    }


MIXTRAL = Architecture(
    model_type="mixtral",
    made_by="MixtralForCausalLM",
    prefix="model.",
    names=NAMES
    | {
        "blocks.*.feed.router": "model.layers.*.block_sparse_moe.gate",
        "blocks.*.feed.experts.*.gate": f"{_EXPERT}.w1",
        "blocks.*.feed.experts.*.down": f"{_EXPERT}.w2",
        "blocks.*.feed.experts.*.up": f"{_EXPERT}.w3",
    },
    stacked_names=NAMES | sparse.STACKED_NAMES,
    spec=spec,
    config=config,
)
