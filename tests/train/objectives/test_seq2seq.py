from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.train.objectives.seq2seq import SequenceToSequence, paired


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
