from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cutaway.base.errors import BadInput
from cutaway.data.batch import IGNORE, Batch
from cutaway.nn.context import Context
from cutaway.train.objectives.causal import Causal
from cutaway.train.objectives.prefix import Prefix, behind


def batch(prefix, lengths=(6, 4)):
    make = torch.Generator().manual_seed(0)
    ids_N = torch.randint(32, (sum(lengths),), generator=make)
    rows = [F.pad(row[1:], (0, 1), value=IGNORE) for row in ids_N.split(lengths)]
    return Batch(ids_N=ids_N, lengths=lengths, targets_N=torch.cat(rows), prefix=prefix)


def test_only_what_lies_behind_the_prefix_is_asked_for():
    targets_N = torch.tensor([11, 12, 13, IGNORE, 21, 22, 23, 24])
    kept = behind(targets_N, (4, 4), (2, 0))
    # The prefix 10, 11: its last token says 12. Without a prefix all is asked for.
    assert kept.tolist() == [IGNORE, 12, 13, IGNORE, 21, 22, 23, 24]
    assert behind(targets_N, (4, 4), (4, 1)).tolist() == [IGNORE] * 4 + [21, 22, 23, 24]


def test_nothing_that_is_asked_for_has_been_seen(decoder):
    """Changing a target's own token must not change what is said in its place."""
    module, given = decoder().double(), batch((3, 2))
    context = Context.of(given.lengths, prefix=given.prefix)
    logits_NV, _ = module(given.ids_N, context)
    asked = behind(given.targets_N, given.lengths, given.prefix).ne(IGNORE).nonzero()[:, 0].tolist()
    assert asked == [2, 3, 4, 7, 8]
    for place in range(9):
        other = given.ids_N.clone()
        other[place + 1] = (other[place + 1] + 1) % 32
        changed = (module(other, Context.of(given.lengths, prefix=given.prefix))[0] - logits_NV)[place].abs().max()
        assert (float(changed.detach()) > 1e-9) == (place in (0, 1, 6))  # these look at the next token already


def test_it_is_cross_entropy_behind_the_prefix(decoder):
    module, given = decoder().double(), batch((3, 2))
    loss = Prefix()(module, given)
    logits_NV, _ = module(given.ids_N, Context.of(given.lengths, prefix=given.prefix))
    rows = [2, 3, 4, 7, 8]
    expected = F.cross_entropy(logits_NV[rows], given.targets_N[rows], reduction="sum")
    assert loss.count == 5
    torch.testing.assert_close(loss.total, expected)


@pytest.mark.parametrize("prefix", [(0, 0), (1, 1)])
def test_without_a_prefix_it_is_causal(decoder, prefix):
    module, given = decoder().double(), batch(prefix)
    one, other = Prefix()(module, given), Causal()(module, given)
    assert one.count == other.count
    torch.testing.assert_close(one.total, other.total, rtol=1e-12, atol=0)


def test_a_prefix_that_is_missing_or_too_long_is_refused(decoder):
    with pytest.raises(BadInput, match=r"Batch\.prefix"):
        Prefix()(decoder(), batch(None))
    with pytest.raises(BadInput, match=r"Batch\.prefix.*longer"):
        Prefix()(decoder(), batch((7, 0)))
