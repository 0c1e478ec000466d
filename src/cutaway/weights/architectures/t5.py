"""T5: an encoder and a decoder with RMS norms before each part, one relative position bias for all layers of a stack.

Raffel et al. 2020 (arXiv 1910.10683). Version 1.0: ReLU feeds, the head is the token table over sqrt(dim). Version 1.1
(Shazeer 2020, arXiv 2002.05202): gated GELU, a head of its own that nothing scales. The config.json of a 1.1 says so by
`tie_word_embeddings: false`; transformers 5 writes true instead, and `scale_decoder_outputs: false` beside it, whether
the head is the table or not: then the tensors decide.
Departure: there is no dropout behind the last norms.   Read next: models/encoder_decoder.py
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.stack import Stack
from cutaway.nn.attention.cross import Cross
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.norms import RMSNorm
from cutaway.nn.relative_bias import RelativeBias
from cutaway.ops.activation import ALIASES
from cutaway.weights.architectures.architecture import Architecture
from cutaway.weights.architectures.outline import Heads
from cutaway.weights.fields import LAYERS, Fields

HEAD = "lm_head.weight"


def _names(stack: str, last: int) -> dict[str, str]:
    """One stack's names; `last`: which of a block's layers is the feed."""
    theirs, ours = f"{stack}.block.*.layer", f"{stack}.blocks.*"
    letters = {"query": "q", "key": "k", "value": "v", "out": "o"}
    named = {f"{ours}.mixer.{part}": f"{theirs}.0.SelfAttention.{letter}" for part, letter in letters.items()}
    if last == 2:
        named |= {f"{ours}.cross.{part}": f"{theirs}.1.EncDecAttention.{letter}" for part, letter in letters.items()}
        named |= {f"{ours}.cross_norms.before": f"{theirs}.1.layer_norm"}
    return named | {
        f"{stack}.relative": f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias",
        f"{stack}.norm": f"{stack}.final_layer_norm",
        f"{ours}.mixer_norms.before": f"{theirs}.0.layer_norm",
        f"{ours}.feed_norms.before": f"{theirs}.{last}.layer_norm",
        f"{ours}.feed.gate": f"{theirs}.{last}.DenseReluDense.wi_0",
        f"{ours}.feed.up": f"{theirs}.{last}.DenseReluDense.wi_1",
        f"{ours}.feed.down": f"{theirs}.{last}.DenseReluDense.wo",
    }


NAMES = {"embedding": "shared", "head": "lm_head", **_names("encoder", 1), **_names("decoder", 2)}
# Version 1.0 has one matrix into the feed.
PLAIN_NAMES = NAMES | {
    "encoder.blocks.*.feed.up": "encoder.block.*.layer.1.DenseReluDense.wi",
    "decoder.blocks.*.feed.up": "decoder.block.*.layer.2.DenseReluDense.wi",
}


def spec(fields: Fields) -> EncoderDecoder:
    if not fields.flag("is_encoder_decoder", True):
        fields.refuse("is_encoder_decoder", "half of a T5 is not known here")
    dim, vocab, drop = (
        fields.count("d_model", 512),
        fields.count("vocab_size", 32128),
        fields.number("dropout_rate", 0.1),
    )
    heads, norm = fields.count("num_heads", 8, most=2**16), RMSNorm(eps=fields.number("layer_norm_epsilon", 1e-6))
    sizes: Heads = {"heads": heads, "kv_heads": heads, "head_dim": fields.count("d_kv", 64, most=2**16)}
    mixer, feed = GroupedQuery(**sizes, scale=1.0, dropout=drop), _feed(fields, drop)
    reads = Block(mixer=mixer, feed=feed, before=norm, dropout=drop)
    writes = replace(reads, cross=Cross(**sizes, scale=1.0, dropout=drop))
    layers = fields.count("num_layers", 6, most=LAYERS)
    stacks = []
    for block, count in ((reads, layers), (writes, fields.count("num_decoder_layers", layers, most=LAYERS))):
        relative = RelativeBias(
            heads=heads,
            causal=block is writes,
            buckets=fields.count("relative_attention_num_buckets", 32),
            furthest=fields.count("relative_attention_max_distance", 128),
        )
        stacks.append(Stack(blocks=(block,) * count, norm=norm, relative=relative))
    tied = fields.flag("tie_word_embeddings", True)
    padding = fields.ids("pad_token_id", (0,), vocab)
    return EncoderDecoder(
        vocab=vocab,
        dim=dim,
        encoder=stacks[0],
        decoder=stacks[1],
        start=fields.ids("decoder_start_token_id", padding, vocab)[0],
        ends=fields.ids("eos_token_id", (1,), vocab),
        tied=tied,
        head_scale=dim**-0.5 if fields.flag("scale_decoder_outputs", tied) else None,
        dropout=drop,
    )


def _feed(fields: Fields, drop: float) -> Plain | Gated:
    hidden, told = fields.count("d_ff", 2048), fields.get("feed_forward_proj", "relu")
    if not isinstance(told, str) or told.removeprefix("gated-") not in ALIASES:
        fields.refuse("feed_forward_proj", f"{told!r:.60} is not known here")
    activation = ALIASES[told.removeprefix("gated-")]
    if not told.startswith("gated-"):
        return Plain(hidden=hidden, activation=activation, bias=False, dropout=drop)
    # The only gated one there was at first had the tanh form, and was called by the exact one's name.
    activation = "gelu_tanh" if told == "gated-gelu" else activation
    return Gated(hidden=hidden, activation=activation, dropout=drop)


def fit(spec: EncoderDecoder, names: Collection[str]) -> EncoderDecoder:
    """A 1.1 that transformers 5 wrote: the config says that its head is the table, and there is another one."""
    return replace(spec, tied=False) if HEAD in names and spec.head_scale is None else spec


def config(spec: EncoderDecoder) -> dict[str, Any]:
    block, relative = spec.decoder.blocks[0], spec.decoder.relative
    if not isinstance(block.mixer, GroupedQuery) or not isinstance(block.before, RMSNorm) or relative is None:
        raise BadInput("not GroupedQuery behind an RMSNorm, with a relative bias", field="EncoderDecoder.decoder")
    return {
        "vocab_size": spec.vocab,
        "d_model": spec.dim,
        "d_kv": block.mixer.head_dim,
        "d_ff": getattr(block.feed, "hidden", None),
        "num_layers": len(spec.encoder.blocks),
        "num_decoder_layers": len(spec.decoder.blocks),
        "num_heads": block.mixer.heads,
        "relative_attention_num_buckets": relative.buckets,
        "relative_attention_max_distance": relative.furthest,
        "dropout_rate": spec.dropout,
        "layer_norm_epsilon": block.before.eps,
        "feed_forward_proj": _written(block.feed),
        "is_encoder_decoder": True,
        "tie_word_embeddings": spec.tied,
        "scale_decoder_outputs": spec.head_scale is not None,
        "pad_token_id": spec.start,
        "decoder_start_token_id": spec.start,
        "eos_token_id": spec.ends[0] if len(spec.ends) == 1 else list(spec.ends),
    }


def _written(feed: Any) -> str:
    activation = getattr(feed, "activation", "")
    if isinstance(feed, Gated):
        return "gated-gelu" if activation == "gelu_tanh" else f"gated-{activation}"
    return "gelu_new" if activation == "gelu_tanh" else activation


def variant(spec: EncoderDecoder) -> Architecture:
    return T5 if isinstance(spec.decoder.blocks[0].feed, Gated) else replace(T5, names=PLAIN_NAMES)


T5 = Architecture(
    model_type="t5",
    made_by="T5ForConditionalGeneration",
    prefix="",
    names=NAMES,
    spec=spec,
    config=config,
    holds=EncoderDecoder,
    # The first checkpoints hold the table three times, and a bias that cross-attention never had a use for.
    copies={"encoder.embed_tokens.weight": "embedding.weight", "decoder.embed_tokens.weight": "embedding.weight"},
    passed_over=("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias",),
    fit=fit,
    variant=variant,
)
