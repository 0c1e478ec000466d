"""The sweep against full passes, place by place."""

from __future__ import annotations

import math

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.infer.language import Language
from cutaway.lab import exits as module
from cutaway.lab.exits import sweep
from cutaway.models.decoder import Decoder
from cutaway.models.encoder import Encoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm

BLOCK = Block(mixer=GroupedQuery(heads=1, kv_heads=1, head_dim=4), feed=Gated(hidden=8), before=RMSNorm())
IDS = [1, 4, 2, 2, 6, 0, 5, 3]


def language() -> Language:
    torch.manual_seed(0)
    built = Decoder(vocab=7, dim=8, length=32, norm=RMSNorm(), blocks=(BLOCK,) * 3).build().double()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    return Language(built)


def test_exits_are_what_the_head_says_behind_each_block(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 3)
    one, thresholds = language(), (0.0, 0.6, 1.1)
    fixed, leaving = sweep(one, IDS, thresholds)
    context = Context.of((len(IDS),), want=frozenset({"residual"}))
    with torch.no_grad():
        _, report = one.module.hidden(torch.tensor(IDS), context)
        p_LNV = [one.module.logits(report[f"blocks.{at}.residual_ND"], context)[:-1].softmax(-1) for at in range(3)]
    places = range(len(IDS) - 1)
    for threshold, found in [*((None, each) for each in fixed), *zip(thresholds, leaving, strict=True)]:
        assert found.threshold == threshold
        left = [
            int(found.blocks) - 1
            if threshold is None
            else next((at for at in range(2) if float(p_LNV[at][place].max()) >= threshold), 2)
            for place in places
        ]
        agrees = [
            int(p_LNV[at][place].argmax()) == int(p_LNV[2][place].argmax())
            for at, place in zip(left, places, strict=True)
        ]
        loss = -sum(
            math.log(float(p_LNV[at][place][IDS[place + 1]])) for at, place in zip(left, places, strict=True)
        ) / len(left)
        assert found.blocks == pytest.approx(sum(left) / len(left) + 1) and found.faster == pytest.approx(
            3 / found.blocks
        )
        assert found.agreement == pytest.approx(sum(agrees) / len(agrees))
        assert found.loss == pytest.approx(loss, abs=1e-5) and found.perplexity == pytest.approx(
            math.exp(loss), rel=1e-4
        )
    assert fixed[-1].agreement == 1.0 and leaving[0].blocks == 1.0 and leaving[-1].blocks == 3.0
    assert 1.0 < leaving[1].blocks < 3.0, "nobody left in between: the test shows little"


def test_what_cannot_be_swept_is_refused():
    with pytest.raises(BadInput, match="text"):
        sweep(language(), [1])
    with pytest.raises(BadInput, match="no decoder"):
        sweep(Language(Encoder(vocab=7, dim=8, length=8, blocks=(BLOCK,)).build()), IDS)
