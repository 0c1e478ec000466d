"""What is a matrix, a table, a vector and a hidden matrix in a real decoder."""

from __future__ import annotations

from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Learned
from cutaway.train.optimisers.sorting import sort

MIXER = GroupedQuery(heads=2, kv_heads=1, head_dim=4, head_norm=RMSNorm(), bias=True)
SPEC = Decoder(
    vocab=11,
    dim=8,
    blocks=(Block(mixer=MIXER, feed=Gated(hidden=16), before=RMSNorm()),) * 2,
    length=8,
    norm=RMSNorm(),
    positions=Learned(length=8),
    tied=False,
    head_bias=True,
)
MAPS = {"mixer.query", "mixer.key", "mixer.value", "mixer.out", "feed.gate", "feed.up", "feed.down"}


def test_a_decoder_by_structure():
    weights = sort(SPEC.build())
    hidden = {f"blocks.{layer}.{part}.weight" for layer in range(2) for part in MAPS}
    assert weights.hidden.keys() == hidden
    assert weights.matrices.keys() == hidden | {"head.weight"}
    assert weights.tables.keys() == {"embedding.weight", "positions.weight"}
    assert {name.rpartition(".")[2] for name in weights.vectors} == {"weight", "bias"}
    assert all("norm" in name or name.endswith("bias") for name in weights.vectors)


def test_decayed_and_undecayed_are_all_weights_once():
    module = SPEC.build()
    weights, names = sort(module), {name for name, _ in module.named_parameters()}
    for tables in (True, False):
        decayed, undecayed = weights.decayed(tables), weights.undecayed(tables)
        assert decayed.keys() | undecayed.keys() == names
        assert not decayed.keys() & undecayed.keys()
        assert ("embedding.weight" in decayed) is tables
