from __future__ import annotations

import pytest
import torch
from torch import nn

from cutaway.base.errors import BadInput
from cutaway.infer.decoding import Decoding
from cutaway.infer.request import Request
from cutaway.infer.runner import Runner, Weights
from cutaway.infer.scheduler import Limits, Scheduler
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.ops.forms import FAST

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


def test_every_way_of_writing_weights_shows():
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    weights = Weights(module)
    assert not weights.changed()
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.1)
    module(torch.ones(2, 3)).sum().backward()  # the running mean is written
    assert weights.changed() and not weights.changed()
    optimiser.step()
    assert weights.changed() and not weights.changed()
    module.load_state_dict(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).state_dict())
    assert weights.changed() and not weights.changed()
    module[0].weight = nn.Parameter(torch.ones(3, 3))
    assert weights.changed() and not weights.changed()
    with torch.inference_mode():
        module[0].register_buffer("extra", torch.ones(1))  # counts no versions
    assert weights.changed() and not weights.changed()
