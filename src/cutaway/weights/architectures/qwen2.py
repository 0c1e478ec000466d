"""Qwen2 and 2.5: biases on queries, keys and values alone; a window on the upper layers where asked for.

Yang et al. 2024 (arXiv 2407.10671); Qwen team 2024 (arXiv 2412.15115).   Read next: weights/architectures/qwen3.py
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.weights.architectures import outline
from cutaway.weights.architectures.architecture import Architecture
from cutaway.weights.architectures.llama import GGUF_NAMES, NAMES
from cutaway.weights.fields import LAYERS, Fields

LONGEST = 32_768


def spec(fields: Fields) -> Decoder:
    sizes = outline.heads(fields)
    mixer = GroupedQuery(
        **sizes,
        rope=outline.rope(fields, sizes["head_dim"], LONGEST),
        bias=True,
        dropout=outline.dropout(fields),
    )
    return upper_windows(fields, mixer)


def upper_windows(fields: Fields, mixer: GroupedQuery) -> Decoder:
    """The decoder around a mixer of full sight: `layer_types` or `max_window_layers` say which layers have a window."""
    count, norm = outline.layers(fields), outline.rms_norm(fields)
    window = outline.window(fields, LONGEST) if fields.flag("use_sliding_window", False) else None
    first = fields.get("max_window_layers", 28)
    if isinstance(first, bool) or not isinstance(first, int) or not 0 <= first <= LAYERS:
        fields.refuse("max_window_layers", f"must be a whole number from 0 to {LAYERS}, is {first!r}")
    kinds = fields.names("layer_types", (outline.FULL, outline.SLIDING), count)
    kinds = kinds or (outline.FULL,) * min(first, count) + (outline.SLIDING,) * (count - first)
    full = Block(mixer=mixer, feed=outline.gated(fields), before=norm)
    near = replace(full, mixer=replace(mixer, window=window))
    return Decoder(
        vocab=fields.count("vocab_size"),
        dim=fields.count("hidden_size"),
        blocks=tuple(near if kind == outline.SLIDING else full for kind in kinds),
        length=outline.length(fields, LONGEST),
        norm=norm,
        tied=fields.flag("tie_word_embeddings", False),
    )


def config(spec: Decoder) -> dict[str, Any]:
    windows = outline.write_windows(spec)
    sliding = windows["sliding_window"] is not None
    return outline.write(spec) | windows | {"use_sliding_window": sliding, "max_window_layers": len(spec.blocks)}


QWEN2 = Architecture(
    model_type="qwen2",
    made_by="Qwen2ForCausalLM",
    prefix="model.",
    names=NAMES,
    spec=spec,
    config=config,
    gguf="qwen2",
    gguf_names=GGUF_NAMES,
)
