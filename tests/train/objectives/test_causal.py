from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cutaway.base.errors import BadInput
from cutaway.data.batch import IGNORE, Batch
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.ops import cross_entropy
from cutaway.train.objectives.causal import Causal

BLOCK = Block(
    mixer=GroupedQuery(heads=2, kv_heads=1, head_dim=8, rope=Rope(width=8)), feed=Gated(hidden=24), before=RMSNorm()
)
TIED = Decoder(vocab=40, dim=16, blocks=(BLOCK,), length=32, norm=RMSNorm(), softcap=5.0)
BIASED = replace(TIED, tied=False, head_bias=True, softcap=None, norm=None)


def batch():
    make = torch.Generator().manual_seed(0)
    ids_N, targets_N = torch.randint(40, (2, 14), generator=make)
    targets_N[[3, 13]] = IGNORE
    return Batch(ids_N=ids_N, lengths=(4, 10), targets_N=targets_N)


def built(spec):
    torch.manual_seed(0)
    module = spec.build().double()
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return module


@pytest.mark.parametrize("spec", [TIED, BIASED], ids=["tied", "biased"])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("told", [{}, {"z": 0.01, "smoothing": 0.1}])
def test_it_is_cross_entropy_of_the_logits(spec, chunked, told, monkeypatch):
    if chunked:
        monkeypatch.setattr(cross_entropy, "SMALL", 0)
        monkeypatch.setattr(cross_entropy, "CHUNK", 120)
    given, module = batch(), built(spec)
    loss = Causal(**told)(module, given)
    logits_NV, _ = module(given.ids_N, Context.of(given.lengths))
    expected = F.cross_entropy(logits_NV, given.targets_N, reduction="sum", label_smoothing=told.get("smoothing", 0.0))
    expected = expected + told.get("z", 0.0) * (logits_NV.logsumexp(-1)[given.targets_N != IGNORE] ** 2).sum()
    assert loss.count == 12
    torch.testing.assert_close(loss.total, expected, rtol=1e-12, atol=0)
    weights = list(module.parameters())
    for one, other in zip(*(torch.autograd.grad(x, weights) for x in (loss.total, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_rows_that_nobody_asks_for_never_reach_the_head():
    given, module, seen = batch(), built(BIASED), []
    given.targets_N[:9] = IGNORE
    module.head.register_forward_hook(lambda *_: seen.append("called"))
    scored = module.scored

    def watched(x_ND, context, score):
        seen.append(len(x_ND))
        return scored(x_ND, context, score)

    module.scored = watched
    loss = Causal()(module, given)
    logits_NV, _ = module(given.ids_N, Context.of(given.lengths))
    torch.testing.assert_close(loss.total, F.cross_entropy(logits_NV, given.targets_N, reduction="sum"))
    assert seen == [4, "called"] and loss.count == 4


def test_any_module_that_gives_scores_will_do():
    class Table(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scores = torch.nn.Parameter(torch.randn(40, 40))

        def forward(self, ids_N, context):
            return self.scores[ids_N], {}

    given, module = batch(), Table()
    expected = F.cross_entropy(module.scores[given.ids_N], given.targets_N, reduction="sum")
    torch.testing.assert_close(Causal()(module, given).total, expected)


def test_what_is_missing_or_impossible_is_named():
    with pytest.raises(BadInput, match=r"Batch\.targets_N"):
        Causal()(built(TIED), Batch(ids_N=torch.zeros(2, dtype=torch.long), lengths=(2,)))
    with pytest.raises(BadInput, match=r"Causal\.z"):
        Causal(z=-0.1)
    with pytest.raises(BadInput, match=r"Causal\.smoothing"):
        Causal(smoothing=1.0)
