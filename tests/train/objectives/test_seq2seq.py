from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.stack import Stack
from cutaway.nn.attention.cross import Cross
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.relative_bias import RelativeBias
from cutaway.ops import cross_entropy
from cutaway.train.fit import fit
from cutaway.train.objectives.seq2seq import SequenceToSequence, paired
from cutaway.train.objectives.spans import Spans
from cutaway.train.recompute import recompute
from cutaway.train.validation import validate


class Table(torch.nn.Module):
    """Scores that depend on the token before and on how long the source is."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(20, 20, dtype=torch.float64))

    def forward(self, ids_N, context, *, source):
        assert context.causal and context.lengths == (3, 1, 2)
        scale = torch.tensor(source.lengths).repeat_interleave(torch.tensor(context.lengths))
        return self.table[ids_N] * scale[:, None], {}


def batch():
    return paired([[5, 6], [7], [8, 9, 10]], [[11, 12, 1], [1], [13, 1]], start=0)


def test_pairs_are_shifted_by_the_start():
    given = batch()
    assert given.ids_N.tolist() == [0, 11, 12, 0, 0, 13] and given.targets_N.tolist() == [11, 12, 1, 1, 13, 1]
    assert given.lengths == (3, 1, 2)
    assert given.source.ids_N.tolist() == [5, 6, 7, 8, 9, 10] and given.source.lengths == (2, 1, 3)
    assert given.tokens == 12
    assert paired([[5]], [[]], start=0).ids_N.tolist() == []


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_smoothed_cross_entropy(smoothing):
    torch.manual_seed(0)
    module, given = Table(), batch()
    loss = SequenceToSequence(smoothing=smoothing)(module, given)
    scale = torch.tensor([2.0, 2, 2, 1, 3, 3], dtype=torch.float64)[:, None]
    expected = F.cross_entropy(
        module.table[given.ids_N] * scale, given.targets_N, reduction="sum", label_smoothing=smoothing
    )
    torch.testing.assert_close(loss.total, expected)
    assert loss.count == 6
    one, other = (torch.autograd.grad(total, module.table)[0] for total in (loss.total, expected))
    torch.testing.assert_close(one, other)


def test_what_is_missing_is_named():
    with pytest.raises(BadInput, match=r"Batch\.source"):
        SequenceToSequence()(Table(), Batch(ids_N=torch.zeros(1, dtype=torch.long), lengths=(1,)))
    with pytest.raises(BadInput, match=r"SequenceToSequence\.smoothing"):
        SequenceToSequence(smoothing=1.5)


def small():
    """T5 with one block on each side, and one more that reads."""
    heads = {"heads": 4, "kv_heads": 4, "head_dim": 8, "scale": 1.0}
    reads = Block(mixer=GroupedQuery(**heads), feed=Gated(hidden=48), before=RMSNorm())
    writes = Block(mixer=GroupedQuery(**heads), feed=Gated(hidden=48), before=RMSNorm(), cross=Cross(**heads))
    encoder, decoder = (
        Stack(blocks=blocks, norm=RMSNorm(), relative=RelativeBias(heads=4, causal=causal, buckets=8, furthest=16))
        for blocks, causal in (((reads, reads), False), ((writes, writes), True))
    )
    torch.manual_seed(0)
    return EncoderDecoder(vocab=24, dim=32, encoder=encoder, decoder=decoder, ends=(1,)).build()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_in_chunks_it_is_what_all_scores_at_once_give(smoothing, monkeypatch):
    torch.manual_seed(0)
    module, given = small().double(), batch()
    weights = list(module.parameters())

    class Whole(torch.nn.Module):
        """The same scores from a module that is not known to have a head: they come at once."""

        def forward(self, *told, **more):
            return module(*told, **more)

    whole = SequenceToSequence(smoothing=smoothing)(Whole(), given)
    monkeypatch.setattr(cross_entropy, "SMALL", 0)
    monkeypatch.setattr(cross_entropy, "CHUNK", 2 * module.spec.vocab)  # two rows of six at once
    chunks = SequenceToSequence(smoothing=smoothing)(module, given)
    torch.testing.assert_close(chunks.total, whole.total)
    slopes = [torch.autograd.grad(loss.total, weights, allow_unused=True) for loss in (chunks, whole)]
    torch.testing.assert_close(*slopes)


def copying(seed):
    """The source is one word; the target is the same, and then the end."""
    words = torch.randint(2, 10, (16,), generator=torch.Generator().manual_seed(seed)).tolist()
    return paired([[word] for word in words], [[word, 1] for word in words], start=0)


def test_an_encoder_decoder_learns_by_it():
    module = small()
    optimiser = torch.optim.AdamW(module.parameters(), 1e-2)
    steps = list(fit(module, SequenceToSequence(), map(copying, range(40)), optimiser, steps=40))
    assert steps[0].loss > 2.5
    # Who cannot read the source is left with log 8 for every other token.
    assert validate(module, SequenceToSequence(), [copying(1000)]).loss < 0.5 < 0.5 * 2.079


def test_recomputed_blocks_share_a_bias_and_a_memory():
    """What all blocks are given beside their input (T5's bias, the encoder's answer) gets its gradient from each."""
    rule, found = Spans(sentinel=23, sentinels=8, end=1), []
    batch = Batch(ids_N=torch.randint(2, 16, (30,)), lengths=(20, 10))
    for again in (False, True):
        module = recompute(small()) if again else small()
        rule(module.eval(), batch).total.backward()
        found.append([weight.grad for weight in module.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
