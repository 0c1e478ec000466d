"""Qwen3: a Qwen2 with a norm on each head's query and key, and no biases unless asked for.

Yang et al. 2025 (arXiv 2505.09388).   Read next: weights/architectures/gemma3.py
"""

from __future__ import annotations

from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.weights.architectures import llama, outline, qwen2
from cutaway.weights.architectures.architecture import Architecture
from cutaway.weights.fields import Fields

NAMES = llama.NAMES | {
    "blocks.*.mixer.query_norm": "model.layers.*.self_attn.q_norm",
    "blocks.*.mixer.key_norm": "model.layers.*.self_attn.k_norm",
}
GGUF_NAMES = llama.GGUF_NAMES | {
    "blocks.*.mixer.query_norm": "blk.*.attn_q_norm",
    "blocks.*.mixer.key_norm": "blk.*.attn_k_norm",
}


def spec(fields: Fields) -> Decoder:
    sizes = outline.heads(fields, head_dim=128)
    bias = fields.flag("attention_bias", False)
    mixer = GroupedQuery(
        **sizes,
        rope=outline.rope(fields, sizes["head_dim"], qwen2.LONGEST),
        head_norm=outline.rms_norm(fields),
        bias=bias,
        out_bias=bias,
        dropout=outline.dropout(fields),
    )
    return qwen2.upper_windows(fields, mixer)


QWEN3 = Architecture(
    model_type="qwen3",
    made_by="Qwen3ForCausalLM",
    prefix="model.",
    names=NAMES,
    spec=spec,
    config=qwen2.config,
    gguf="qwen3",
    gguf_names=GGUF_NAMES,
)
