from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cutaway.base.errors import BadInput
from cutaway.data.batch import IGNORE, Batch
from cutaway.models.classifier import SequenceClassifier, TokenClassifier
from cutaway.models.encoder import Encoder
from cutaway.models.pooler import Pooler
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Plain
from cutaway.nn.norms import LayerNorm
from cutaway.nn.positions import Learned
from cutaway.train.fit import fit
from cutaway.train.objectives.classification import SequenceClassification, TokenClassification
from cutaway.train.validation import validate


def encoder(head, pooler=None):
    mixer = GroupedQuery(heads=2, kv_heads=2, head_dim=8)
    block = Block(mixer=mixer, feed=Plain(hidden=32), before=LayerNorm())
    torch.manual_seed(0)
    spec = Encoder(
        vocab=20,
        dim=16,
        blocks=(block,),
        length=16,
        positions=Learned(length=16),
        kinds=2,
        norm=LayerNorm(),
        head=head,
        pooler=pooler,
    )
    return spec.build()


def batch(seed=0, times=1):
    """`times` four sequences. A sequence's class is that of its one token below 3; a token's is whether it is odd."""
    make = torch.Generator().manual_seed(seed)
    lengths = (5, 8, 3, 6) * times
    ids_N = torch.randint(3, 20, (sum(lengths),), generator=make)
    labels_B = torch.randint(3, (4 * times,), generator=make)
    ids_N.view(times, 22)[:, [2, 9, 13, 21]] = labels_B.view(times, 4)
    targets_N = ids_N % 2
    targets_N[::4] = IGNORE
    return Batch(ids_N=ids_N, lengths=lengths, labels_B=labels_B, targets_N=targets_N, kinds_N=torch.ones_like(ids_N))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_sequences(smoothing):
    module, given = encoder(SequenceClassifier(classes=3), Pooler()).double(), batch()
    loss = SequenceClassification(smoothing=smoothing)(module, given)
    logits_BC, _ = module(given.ids_N, Context.of(given.lengths, causal=False), kinds_N=given.kinds_N)
    expected = F.cross_entropy(logits_BC, given.labels_B, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(loss.total, expected)
    assert loss.count == 4
    assert int(loss.metrics["accuracy"]) == int((logits_BC.argmax(-1) == given.labels_B).sum())


def test_tokens():
    module, given = encoder(TokenClassifier(classes=2)).double(), batch()
    loss = TokenClassification()(module, given)
    logits_NC, _ = module(given.ids_N, Context.of(given.lengths, causal=False), kinds_N=given.kinds_N)
    torch.testing.assert_close(loss.total, F.cross_entropy(logits_NC, given.targets_N, reduction="sum"))
    kept = given.targets_N != IGNORE
    assert loss.count == int(kept.sum()) == 16
    assert int(loss.metrics["accuracy"]) == int((logits_NC.argmax(-1) == given.targets_N)[kept].sum())


@pytest.mark.parametrize(
    ("head", "pooler", "objective"),
    [
        (SequenceClassifier(classes=3), Pooler(), SequenceClassification()),
        (TokenClassifier(classes=2), None, TokenClassification()),
    ],
    ids=["sequences", "tokens"],
)
def test_an_encoder_learns_by_them(head, pooler, objective):
    module = encoder(head, pooler)
    optimiser = torch.optim.AdamW(module.parameters(), 1e-2)
    list(fit(module, objective, (batch(seed, 16) for seed in range(60)), optimiser, steps=60))
    score = validate(module, objective, [batch(500, 20)])
    assert score.metrics["accuracy"] > 0.95


def test_what_is_missing_is_named():
    bare = Batch(ids_N=torch.zeros(2, dtype=torch.long), lengths=(2,))
    with pytest.raises(BadInput, match=r"Batch\.labels_B"):
        SequenceClassification()(encoder(SequenceClassifier(classes=3), Pooler()), bare)
    with pytest.raises(BadInput, match=r"Batch\.targets_N"):
        TokenClassification()(encoder(TokenClassifier(classes=3)), bare)
    with pytest.raises(BadInput, match=r"TokenClassification\.smoothing"):
        TokenClassification(smoothing=-0.1)
