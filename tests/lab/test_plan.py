"""The ZeRO paper's figures and the laws between strategies; bench/plan.py holds them against two processes."""

from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.lab.plan import Setting, plan
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope

BLOCK = Block(
    mixer=GroupedQuery(heads=4, kv_heads=2, head_dim=16, rope=Rope(width=16)), feed=Gated(hidden=128), before=RMSNorm()
)
SPEC = Decoder(vocab=500, dim=64, blocks=(BLOCK,) * 4, length=64, norm=RMSNorm())


def test_the_zero_papers_figure_1():
    rows = plan(7_500_000_000, Setting(devices=64))
    assert [round(row.states / 1e9, 1) for row in rows] == [120.0, 31.4, 16.6, 1.9]


@pytest.mark.parametrize(
    ("size", "devices", "paper"),
    [
        (128, 1, (2048, 2048, 2048)),
        (128, 64, (536, 284, 32)),
        (1000, 1024, (4011, 2013, 15.6)),
        (7.5, 4, (52.5, 41.3, 30)),
    ],
)
def test_the_zero_papers_table_1(size, devices, paper):
    rows = plan(round(size * 1e9), Setting(devices=devices))
    held = [row.states / 1e9 for row in rows[1:]]
    assert held == pytest.approx(paper, rel=0.005)  # the paper rounds to three digits


def test_what_is_sent():
    weights = SPEC.cost(1, 1).parameters * 4
    rows = {row.strategy: row for row in plan(SPEC, Setting(devices=4, length=64, precision="float32"))}
    assert rows["ddp"].sent == rows["zero-1"].sent == rows["zero-2"].sent == pytest.approx(2 * weights * 3 / 4)
    once = (500 * 64 + 64) * 4  # the table and the last norm are gathered once, not twice
    assert rows["zero-3"].sent == pytest.approx((3 * weights - once) * 3 / 4)
    tensor = plan(SPEC, Setting(devices=2, tensor=2, length=64, precision="float32"), ["ddp"])[0]
    assert tensor.sent == 4 * 7 * 64 * 64 * 4  # 4 blocks, 2 sums forward and 5 backward, 2 (2 - 1) / 2 of (64, 64)
    middle = plan(SPEC, Setting(devices=4, pipeline=4, length=64, precision="float32"), ["ddp"])[0]
    assert middle.sent in (64 * 64 * 4, 2 * 64 * 64 * 4)


def test_one_device_sends_nothing_and_all_ways_are_one():
    rows = plan(SPEC, Setting(devices=1, length=64))
    assert {row.total for row in rows} == {rows[0].total}
    assert {row.sent for row in rows} == {0}


def test_blocks_cut_by_heads_have_their_share_of_parameters_and_activations():
    whole = plan(SPEC, Setting(devices=1, length=64), ["ddp"])[0]
    half = plan(SPEC, Setting(devices=2, tensor=2, length=64), ["ddp"])[0]
    kept = 500 * 64 + 64 + 4 * 2 * 64  # the table and all norms are whole on both
    total = SPEC.cost(1, 1).parameters
    assert half.weights == 2 * (kept + (total - kept) / 2)
    assert whole.activations / 2 < half.activations < whole.activations


def test_stages_of_a_pipeline_hold_their_blocks():
    whole = plan(SPEC, Setting(devices=1, length=64), ["ddp"])[0]
    stage = plan(SPEC, Setting(devices=4, pipeline=4, length=64), ["ddp"])[0]
    block = BLOCK.cost(64, 1, 1).parameters
    assert stage.weights == 2 * (block + 500 * 64 + 64)  # the last: a block, a copy of the table, the last norm
    assert stage.activations < whole.activations / 2


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"devices": 4, "tensor": 8}, "devices: tensor 8 x pipeline 1 needs at least 8 devices, there are 4"),
        ({"devices": 6, "tensor": 2, "pipeline": 2}, "needs a multiple of 4 devices, there are 6"),
        ({"devices": 8, "tensor": 8}, "tensor: 4 heads cannot be shared out among 8 devices"),
        ({"devices": 4, "tensor": 4}, "tensor: 2 kv heads cannot be shared out"),
        ({"devices": 8, "pipeline": 8}, "pipeline: 8 stages are more than the 4 blocks"),
        ({"devices": 0}, "devices: must be at least 1"),
        ({"devices": 1, "precision": "int1"}, 'precision: "int1" is not known'),
    ],
)
def test_what_the_devices_do_not_allow(told, message):
    with pytest.raises(BadInput, match=message):
        plan(SPEC, Setting(**told))
    with pytest.raises(BadInput, match="strategy"):
        plan(SPEC, Setting(devices=1), ["magic"])
