from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.infer import paged
from cutaway.infer.decoding import Decoding
from cutaway.infer.request import Request
from cutaway.infer.runner import Runner
from cutaway.infer.scheduler import Limits, Scheduler
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.ops.attend import attend_sdpa
from cutaway.ops.forms import FAST
from cutaway.ops.paged import attend_paged_gathered

LIMITS = Limits(tokens=200, sequences=4, budget=16, page=4, slack=0)


def model() -> DecoderModel:
    torch.manual_seed(0)
    mixer = GroupedQuery(heads=2, kv_heads=1, head_dim=4, rope=Rope(width=4))
    block = Block(mixer=mixer, feed=Gated(hidden=8), before=RMSNorm(), dropout=0.5)
    return Decoder(vocab=20, dim=8, blocks=(block, block), length=64).build()


def test_a_plan_is_one_pass_with_logits_where_a_token_is_chosen():
    module = model()
    runner = Runner(module, LIMITS, FAST)
    scheduler = Scheduler(runner.cache.tables, LIMITS, length=64)
    calls = []
    module.register_forward_hook(lambda *told: calls.append(told[1][0].tolist()))
    texts = [(1, 2, 3), tuple(range(20)), (7,)]
    for text in texts:
        scheduler.submit(Request(prompt=text, decoding=Decoding(max_tokens=2)))
    plan = scheduler.plan()
    assert [(part.count, part.samples) for part in plan.parts] == [(3, True), (13, False)]
    logits_XV = runner.run(plan)
    assert calls == [[1, 2, 3, *range(13)]]
    module.eval()
    expected = module(torch.tensor(texts[0]), Context.of((3,)))[0][-1]
    # Attention over pages and over what came in sums in other orders.
    assert logits_XV.shape == (1, 20) and torch.allclose(logits_XV[0], expected, atol=1e-6)


@pytest.mark.parametrize("window", [None, 3])
def test_steps_attend_to_pages_and_a_prompt_beside_them_is_read(window, monkeypatch):
    """Three texts that step, of unlike lengths, and a prompt: as where each sequence's rows are read."""
    torch.manual_seed(0)
    mixer = GroupedQuery(heads=4, kv_heads=2, head_dim=4, rope=Rope(width=4), window=window)
    blocks = (Block(mixer=mixer, feed=Gated(hidden=8), before=RMSNorm()),) * 2
    module = Decoder(vocab=20, dim=8, blocks=blocks, length=64).build()
    called, logits = [], []

    def counted(q_BHK, *told, **named):
        called.append(len(q_BHK))
        return attend_paged_gathered(q_BHK, *told, **named)

    for least in (2, 99):
        monkeypatch.setattr(paged, "STEPS", least)
        runner = Runner(module, LIMITS, replace(FAST, attend_paged=counted))
        scheduler = Scheduler(runner.cache.tables, LIMITS, length=64)
        texts = [scheduler.submit(Request(prompt=tuple(range(length)))) for length in (3, 9, 1)]
        plan = scheduler.plan()
        runner.run(plan)
        for sequences in scheduler.commit(plan):
            scheduler.take(sequences[0], 5)
        scheduler.submit(Request(prompt=(7, 8, 9)))
        plan = scheduler.plan()
        assert [part.count for part in plan.parts] == [1, 1, 1, 3] and len(texts) == 3
        logits.append(runner.run(plan))
    assert called == [3, 3], "once a layer, and not where steps are too few"
    # Sums in other orders.
    torch.testing.assert_close(*logits, rtol=0, atol=1e-6)


def test_a_readers_own_attention_is_what_runs():
    calls = []

    def mine(*told, **named):
        calls.append(told)
        return attend_sdpa(*told, **named)

    runner = Runner(model(), LIMITS, replace(FAST, attend=mine))
    scheduler = Scheduler(runner.cache.tables, LIMITS, length=64)
    for first in (1, 2):
        scheduler.submit(Request(prompt=(first,)))
    runner.run(scheduler.plan())
    assert len(calls) == 2


def test_a_pass_in_which_nobody_chooses_has_no_logits():
    runner = Runner(model(), LIMITS, FAST)
    scheduler = Scheduler(runner.cache.tables, LIMITS, length=64)
    scheduler.submit(Request(prompt=tuple(range(20)), decoding=Decoding(max_tokens=2)))
    assert runner.run(scheduler.plan()).shape == (0, 20)


@pytest.mark.parametrize("training", [True, False])
def test_a_module_that_is_trained_meanwhile_drops_nothing_and_stays_in_training(training):
    module = model().train(training)
    runner = Runner(module, LIMITS, FAST)
    logits = []
    for _ in range(2):
        scheduler = Scheduler(runner.cache.tables, LIMITS, length=64)
        sequence = scheduler.submit(Request(prompt=(1, 2, 3), decoding=Decoding(max_tokens=1)))
        logits.append(runner.run(scheduler.plan()))
        scheduler.cancel(sequence)
    assert torch.equal(*logits)
    assert all(part.training == training for part in module.modules())


def test_less_than_float32_is_refused_where_no_text_may_part():
    with pytest.raises(BadInput, match=r"float32, this model computes in torch\.bfloat16"):
        Runner(model().bfloat16(), LIMITS, FAST, deterministic=True)
    Runner(model().bfloat16(), LIMITS, FAST)
