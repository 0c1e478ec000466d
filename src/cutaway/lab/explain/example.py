"""smollm2-135m as a value: the model whose numbers the explanations put into their formulas.

Read next: models/decoder.py
"""

from __future__ import annotations

from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope

MIXER = GroupedQuery(heads=9, kv_heads=3, head_dim=64, rope=Rope(width=64, theta=100_000.0))
FEED = Gated(hidden=1536, activation="silu")
BLOCK = Block(mixer=MIXER, feed=FEED, before=RMSNorm(eps=1e-5))
SMOLLM2 = Decoder(vocab=49_152, dim=576, blocks=(BLOCK,) * 30, norm=RMSNorm(eps=1e-5), length=8192)

LETTERS = {
    "D": SMOLLM2.dim,
    "V": SMOLLM2.vocab,
    "L": len(SMOLLM2.blocks),
    "H": MIXER.heads,
    "G": MIXER.kv_heads,
    "K": MIXER.head_dim,
    "F": FEED.hidden,
    "S": SMOLLM2.length,
    "P": SMOLLM2.cost(1, 1).parameters,
}
MEANINGS = {
    "D": "model dim",
    "V": "vocabulary",
    "L": "blocks",
    "H": "query heads",
    "G": "kv heads",
    "K": "head dim",
    "F": "hidden dim",
    "S": "tokens seen",
    "P": "parameters",
}
