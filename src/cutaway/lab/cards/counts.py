"""How many parameters GPT-2 and BERT-base have, summed part by part without building either.

GPT-2: Radford et al. 2019, table 2 says 117M; the released small model has 124,439,808, its head tied to its table.
BERT: Devlin et al. 2018 (arXiv 1810.04805), section 3, says 110M; with pooler and without a head it is 109,482,240.
Read next: lab/cards/table.py, nn/cost.py
"""

from __future__ import annotations

from cutaway.lab.card import Card, Finding, Near
from cutaway.models.decoder import Decoder
from cutaway.models.encoder import Encoder
from cutaway.models.pooler import Pooler
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Plain
from cutaway.nn.norms import LayerNorm
from cutaway.nn.positions import Learned

HEADS = GroupedQuery(heads=12, kv_heads=12, head_dim=64, bias=True, out_bias=True)
NORM = LayerNorm()


def gpt2() -> Decoder:
    """GPT-2 small: 12 layers of 768, norms before each part, learned positions, a tied head."""
    block = Block(mixer=HEADS, feed=Plain(hidden=3072, activation="gelu_tanh", bias=True), before=NORM)
    return Decoder(
        vocab=50257, dim=768, blocks=(block,) * 12, length=1024, norm=NORM, positions=Learned(length=1024), tied=True
    )


def bert_base() -> Encoder:
    """BERT-base, uncased, with its pooler and no head: 12 layers of 768, norms outside, two token types."""
    block = Block(mixer=HEADS, feed=Plain(hidden=3072, activation="gelu", bias=True), outside=NORM)
    return Encoder(
        vocab=30522,
        dim=768,
        blocks=(block,) * 12,
        length=512,
        positions=Learned(length=512),
        kinds=2,
        embedding_norm=NORM,
        pooler=Pooler(),
    )


def _compute() -> tuple[Finding, ...]:
    return (
        Finding(what="GPT-2 small", expected=Near(value=124_439_808), ours=gpt2().cost(1, 1).parameters),
        Finding(what="BERT-base", expected=Near(value=109_482_240), ours=bert_base().cost(1, 1).parameters),
    )


CARD = Card(
    name="parameter-counts",
    claim="GPT-2 small has 124,439,808 parameters, BERT-base (with pooler, without a head) 109,482,240.",
    source="Radford et al. 2019 (the released weights); Devlin et al. 2018, section 3 (the released weights)",
    computed="the sum of what each part's value says it costs",
    tolerance="none: a count is right or wrong",
    seconds=1,
    compute=_compute,
)
