"""BERT: an encoder with learned positions, token types, and norms behind each sum.

Devlin et al. 2018 (arXiv 1810.04805).   config.json's `architectures` says which head there is.
Departures: a head for next sentences is passed over; a trunk without the pooler's tensors has none here, where
transformers makes up a random one; names of classes are not kept.
Read next: models/encoder.py, weights/architectures/gpt2.py
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.models.classifier import SequenceClassifier, TokenClassifier
from cutaway.models.encoder import Encoder, Head
from cutaway.models.masked_head import MaskedHead
from cutaway.models.pooler import Pooler
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Plain
from cutaway.nn.norms import LayerNorm
from cutaway.nn.positions import Learned
from cutaway.ops.activation import ALIASES
from cutaway.weights.architectures import outline
from cutaway.weights.architectures.architecture import Architecture
from cutaway.weights.fields import LAYERS, Fields

LAYER = "bert.encoder.layer.*."
NAMES = {
    "embedding": "bert.embeddings.word_embeddings",
    "positions": "bert.embeddings.position_embeddings",
    "kinds": "bert.embeddings.token_type_embeddings",
    "embedding_norm": "bert.embeddings.LayerNorm",
    "blocks.*.mixer.query": LAYER + "attention.self.query",
    "blocks.*.mixer.key": LAYER + "attention.self.key",
    "blocks.*.mixer.value": LAYER + "attention.self.value",
    "blocks.*.mixer.out": LAYER + "attention.output.dense",
    "blocks.*.mixer_norms.outside": LAYER + "attention.output.LayerNorm",
    "blocks.*.feed.up": LAYER + "intermediate.dense",
    "blocks.*.feed.down": LAYER + "output.dense",
    "blocks.*.feed_norms.outside": LAYER + "output.LayerNorm",
    "pooler.dense": "bert.pooler.dense",
    "head": "cls.predictions",
    "head.dense": "cls.predictions.transform.dense",
    "head.norm": "cls.predictions.transform.LayerNorm",
    "head.out": "classifier",
}
TRUNK, MASKED, SEQUENCES, TOKENS = (
    "BertModel",
    "BertForMaskedLM",
    "BertForSequenceClassification",
    "BertForTokenClassification",
)
# The class that config.json names, and the head that it has.
HEADS = {TRUNK: None, MASKED: MaskedHead, "BertForPreTraining": MaskedHead}
HEADS |= {SEQUENCES: SequenceClassifier, TOKENS: TokenClassifier}
CLASSES = 2**16  # more than any classifier has


def spec(fields: Fields) -> Encoder:
    _refuse_others(fields)
    made_by = _made_by(fields)
    dim, heads = fields.count("hidden_size", 768), fields.count("num_attention_heads", 12, most=2**16)
    if dim % heads:
        fields.refuse("num_attention_heads", f"{heads} heads do not divide hidden_size {dim}")
    norm, drop = LayerNorm(eps=fields.number("layer_norm_eps", 1e-12)), fields.number("hidden_dropout_prob", 0.1)
    activation = fields.choice("hidden_act", ALIASES, "gelu")
    block = Block(
        mixer=GroupedQuery(
            heads=heads,
            kv_heads=heads,
            head_dim=dim // heads,
            bias=True,
            out_bias=True,
            dropout=fields.number("attention_probs_dropout_prob", 0.1),
        ),
        feed=Plain(hidden=fields.count("intermediate_size", 3072), activation=activation, bias=True),
        outside=norm,
        dropout=drop,
    )
    length = outline.length(fields, 512)
    pooled = made_by == SEQUENCES or (made_by == TRUNK and fields.flag("add_pooling_layer", True))
    return Encoder(
        vocab=fields.count("vocab_size", 30522),
        dim=dim,
        blocks=(block,) * fields.count("num_hidden_layers", 12, most=LAYERS),
        length=length,
        positions=Learned(length=length),
        kinds=fields.count("type_vocab_size", 2, most=CLASSES),
        embedding_norm=norm,
        pooler=Pooler() if pooled else None,
        head=_head(fields, made_by, activation, norm, drop),
        dropout=drop,
    )


def _refuse_others(fields: Fields) -> None:
    if fields.flag("is_decoder", False) or fields.flag("add_cross_attention", False):
        fields.refuse("is_decoder", "a BERT that generates, or reads another encoder, is not known here")
    if fields.get("position_embedding_type", "absolute") != "absolute":
        fields.refuse("position_embedding_type", 'only "absolute" is known here')
    if not fields.flag("tie_word_embeddings", True):
        fields.refuse("tie_word_embeddings", "a masked-language head with a table of its own is not known here")


def _made_by(fields: Fields) -> str:
    named = fields.get("architectures", [TRUNK])
    if not isinstance(named, list) or len(named) != 1 or named[0] not in HEADS:
        fields.refuse("architectures", f"{named!r:.80} is not known here (known: {', '.join(HEADS)})")
    return named[0]


def _head(fields: Fields, made_by: str, activation: str, norm: LayerNorm, drop: float) -> Head | None:
    kind = HEADS[made_by]
    if kind is None:
        return None
    if kind is MaskedHead:
        return MaskedHead(activation=activation, norm=norm)
    labels = fields.inner("id2label")
    classes = fields.count("num_labels", len(labels.data) if labels and labels.data else 2, most=CLASSES)
    return kind(classes=classes, dropout=fields.number("classifier_dropout", drop))


def fit(spec: Encoder, names: Collection[str]) -> Encoder:
    """A trunk that came without its pooler."""
    if spec.head is None and not any(name.endswith("pooler.dense.weight") for name in names):
        return replace(spec, pooler=None)
    return spec


def config(spec: Encoder) -> dict[str, Any]:
    block = spec.blocks[0]
    mixer, feed, norm = block.mixer, block.feed, block.outside
    if not isinstance(mixer, GroupedQuery) or not isinstance(feed, Plain) or not isinstance(norm, LayerNorm):
        raise BadInput("not GroupedQuery, Plain and a LayerNorm outside", field="Encoder.blocks")
    made_by = next(name for name, kind in HEADS.items() if kind is (type(spec.head) if spec.head else None))
    told = {
        "architectures": [made_by],
        "vocab_size": spec.vocab,
        "hidden_size": spec.dim,
        "num_hidden_layers": len(spec.blocks),
        "num_attention_heads": mixer.heads,
        "intermediate_size": feed.hidden,
        "hidden_act": outline.written(feed.activation),
        "hidden_dropout_prob": spec.dropout,
        "attention_probs_dropout_prob": mixer.dropout,
        "max_position_embeddings": spec.length,
        "type_vocab_size": spec.kinds,
        "layer_norm_eps": norm.eps,
        "position_embedding_type": "absolute",
        "add_pooling_layer": spec.pooler is not None,
    }
    if isinstance(spec.head, SequenceClassifier | TokenClassifier):
        labels = [f"LABEL_{index}" for index in range(spec.head.classes)]
        told["id2label"] = {str(index): label for index, label in enumerate(labels)}
        told["label2id"] = {label: index for index, label in enumerate(labels)}
        told["classifier_dropout"] = spec.head.dropout
    return told


BERT = Architecture(
    model_type="bert",
    made_by=TRUNK,
    prefix="bert.",
    names=NAMES,
    spec=spec,
    config=config,
    holds=Encoder,
    passed_over=("bert.pooler.", "pooler.", "cls."),
    copies={"cls.predictions.decoder.weight": "embedding.weight", "cls.predictions.decoder.bias": "head.bias"},
    older={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
    fit=fit,
    bare=lambda spec: spec.head is None,
)
