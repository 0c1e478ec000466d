"""Mistral: a Llama in which every layer may see only the last `sliding_window` tokens.

Jiang et al. 2023 (arXiv 2310.06825).   Read next: weights/architectures/gemma2.py
"""

from __future__ import annotations

from typing import Any

from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.weights.architectures import outline
from cutaway.weights.architectures.architecture import Architecture
from cutaway.weights.architectures.llama import NAMES, PAIRED_NAMES
from cutaway.weights.fields import Fields

LONGEST = 131_072


def spec(fields: Fields) -> Decoder:
    sizes, norm = outline.heads(fields, kv_heads=8), outline.rms_norm(fields)
    block = Block(
        mixer=GroupedQuery(
            **sizes,
            rope=outline.rope(fields, sizes["head_dim"], LONGEST),
            window=outline.window(fields, LONGEST),
            dropout=outline.dropout(fields),
        ),
        feed=outline.gated(fields),
        before=norm,
    )
    return Decoder(
        vocab=fields.count("vocab_size"),
        dim=fields.count("hidden_size"),
        blocks=(block,) * outline.layers(fields),
        length=outline.length(fields, LONGEST),
        norm=norm,
        tied=fields.flag("tie_word_embeddings", False),
    )


def config(spec: Decoder) -> dict[str, Any]:
    return outline.write(spec) | {"sliding_window": outline.write_windows(spec)["sliding_window"]}


MISTRAL = Architecture(
    model_type="mistral",
    made_by="MistralForCausalLM",
    prefix="model.",
    names=NAMES,
    spec=spec,
    config=config,
    gguf="llama",
    gguf_names=PAIRED_NAMES,
)
