"""Marian: the original Transformer as translators have it: norms behind each sum, waves in halves, one table for all.

Junczys-Dowmunt et al. 2018 (arXiv 1804.00344), after Vaswani et al. 2017 (arXiv 1706.03762).
  logits = decoder(sqrt(D) E[y] + waves, encoder(sqrt(D) E[x] + waves)) E^T + b
The waves are worked out here, as transformers 5 does; files of older programs hold them as tables, which are passed
over. A folder without `final_logits_bias` has none, which transformers takes for zeros; its config.json says so.
Departures: only the published kind, whose source and target share a vocabulary; the end is never forced on a text.
Read next: models/encoder_decoder.py, weights/architectures/t5.py
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
from cutaway.nn.feedforward import Plain
from cutaway.nn.norms import LayerNorm
from cutaway.nn.positions import Sinusoidal
from cutaway.ops.activation import ALIASES
from cutaway.weights.architectures import outline
from cutaway.weights.architectures.architecture import Architecture
from cutaway.weights.architectures.place import Place
from cutaway.weights.fields import LAYERS, Fields

BIAS = "final_logits_bias"
# What some of the first configs say, and what transformers has no other form for.
ALWAYS = {
    "is_encoder_decoder": True,
    "share_encoder_decoder_embeddings": True,
    "tie_word_embeddings": True,
    "static_position_embeddings": True,
    "normalize_before": False,
    "normalize_embedding": False,
    "add_final_layer_norm": False,
}


def _names(stack: str) -> dict[str, str]:
    theirs, ours = f"model.{stack}.layers.*", f"{stack}.blocks.*"
    letters = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}
    return {
        **{f"{ours}.mixer.{part}": f"{theirs}.self_attn.{letter}" for part, letter in letters.items()},
        **{f"{ours}.cross.{part}": f"{theirs}.encoder_attn.{letter}" for part, letter in letters.items()},
        f"{ours}.mixer_norms.outside": f"{theirs}.self_attn_layer_norm",
        f"{ours}.cross_norms.outside": f"{theirs}.encoder_attn_layer_norm",
        f"{ours}.feed_norms.outside": f"{theirs}.final_layer_norm",
        f"{ours}.feed.up": f"{theirs}.fc1",
        f"{ours}.feed.down": f"{theirs}.fc2",
    }


NAMES = {
    "embedding": "model.shared",
    "head": "lm_head",
    "bias": Place(name=BIAS, lone=True),
    **_names("encoder"),
    **_names("decoder"),
}


def spec(fields: Fields) -> EncoderDecoder:
    for name, value in ALWAYS.items():
        if fields.flag(name, value) != value:
            fields.refuse(name, f"only {str(value).lower()} is known here")
    dim, vocab = fields.count("d_model", 1024), fields.count("vocab_size", 58101)
    if fields.count("decoder_vocab_size", vocab) != vocab:
        fields.refuse("decoder_vocab_size", f"must be vocab_size {vocab}: both sides share one table")
    if dim % 2:
        fields.refuse("d_model", f"must be even, sine and cosine come in pairs, is {dim}")
    positions = Sinusoidal(length=outline.length(fields, 1024), interleaved=False)
    return EncoderDecoder(
        vocab=vocab,
        dim=dim,
        encoder=_stack(fields, "encoder", dim, positions),
        decoder=_stack(fields, "decoder", dim, positions),
        start=fields.ids("decoder_start_token_id", (vocab - 1,), vocab)[0],
        ends=fields.ids("eos_token_id", (0,), vocab),
        never=_never(fields, vocab),
        head_bias=fields.flag(BIAS, True),
        embedding_scale=dim**0.5 if fields.flag("scale_embedding", False) else None,
        dropout=fields.number("dropout", 0.1),
    )


def _stack(fields: Fields, side: str, dim: int, positions: Sinusoidal) -> Stack:
    heads = fields.count(f"{side}_attention_heads", 16, most=2**16)
    if dim % heads:
        fields.refuse(f"{side}_attention_heads", f"{heads} heads do not divide d_model {dim}")
    sizes: outline.Heads = {"heads": heads, "kv_heads": heads, "head_dim": dim // heads}
    drop = fields.number("attention_dropout", 0.0)
    block = Block(
        mixer=GroupedQuery(**sizes, bias=True, out_bias=True, dropout=drop),
        cross=Cross(**sizes, bias=True, out_bias=True, dropout=drop) if side == "decoder" else None,
        feed=Plain(
            hidden=fields.count(f"{side}_ffn_dim", 4096),
            activation=fields.choice("activation_function", ALIASES, "gelu"),
            dropout=fields.number("activation_dropout", 0.0),
        ),
        outside=LayerNorm(eps=1e-5),
        dropout=fields.number("dropout", 0.1),
    )
    return Stack(blocks=(block,) * fields.count(f"{side}_layers", 12, most=LAYERS), positions=positions)


def _never(fields: Fields, vocab: int) -> tuple[int, ...]:
    """Published models hold the padding as a token of zeros, whose logit is 0, and forbid it."""
    told = fields.get("bad_words_ids", [])
    if not isinstance(told, list) or not all(isinstance(one, list) and len(one) == 1 for one in told):
        fields.refuse("bad_words_ids", f"must be a list of lists of one token, is {told!r:.60}")
    ids = [one[0] for one in told]
    if not all(type(id) is int and 0 <= id < vocab for id in ids):
        fields.refuse("bad_words_ids", f"must hold ids of {vocab} tokens, is {told!r:.60}")
    return tuple(ids)


def fit(spec: EncoderDecoder, names: Collection[str]) -> EncoderDecoder:
    """Without a bias where there is none in the files."""
    return spec if BIAS in names else replace(spec, head_bias=False)


def config(spec: EncoderDecoder) -> dict[str, Any]:
    block, sides = spec.decoder.blocks[0], {"encoder": spec.encoder, "decoder": spec.decoder}
    if not isinstance(block.mixer, GroupedQuery) or not isinstance(block.feed, Plain) or spec.encoder.length is None:
        raise BadInput("not GroupedQuery and Plain, with positions", field="EncoderDecoder.decoder")
    told: dict[str, Any] = {}
    for side, stack in sides.items():
        told |= {
            f"{side}_layers": len(stack.blocks),
            f"{side}_attention_heads": getattr(stack.blocks[0].mixer, "heads", None),
            f"{side}_ffn_dim": getattr(stack.blocks[0].feed, "hidden", None),
        }
    return {
        "vocab_size": spec.vocab,
        "decoder_vocab_size": spec.vocab,
        "d_model": spec.dim,
        **told,
        "max_position_embeddings": spec.encoder.length,
        "activation_function": outline.written(block.feed.activation),
        "dropout": spec.dropout,
        "attention_dropout": block.mixer.dropout,
        "activation_dropout": block.feed.dropout,
        "scale_embedding": spec.embedding_scale is not None,
        BIAS: spec.head_bias,
        **ALWAYS,
        "bos_token_id": None,
        "pad_token_id": spec.start,
        "decoder_start_token_id": spec.start,
        "eos_token_id": spec.ends[0] if len(spec.ends) == 1 else list(spec.ends),
        "forced_eos_token_id": None,
        "bad_words_ids": [[id] for id in spec.never] or None,
    }


MARIAN = Architecture(
    model_type="marian",
    made_by="MarianMTModel",
    prefix="model.",
    names=NAMES,
    spec=spec,
    config=config,
    holds=EncoderDecoder,
    copies={f"model.{stack}.embed_tokens.weight": "embedding.weight" for stack in ("encoder", "decoder")},
    passed_over=tuple(
        f"{prefix}{stack}.embed_positions." for prefix in ("model.", "") for stack in ("encoder", "decoder")
    ),
    fit=fit,
)
