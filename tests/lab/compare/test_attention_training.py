from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cutaway.base.errors import BadInput
from cutaway.base.values import from_plain, to_plain
from cutaway.lab.compare import attention
from cutaway.lab.compare.attention import PARTS, AttentionComparison
from cutaway.lab.compare.attention_training import AttentionTraining, groups, shrunk, told
from cutaway.lab.compare.folder import Folder, measured
from cutaway.lab.compare.kinds import VALUES
from cutaway.lab.compare.mixers import KINDS, Shape, mixer
from cutaway.lab.compare.probes import Passkey, Probing, Recall
from cutaway.lab.compare.training import parameters
from cutaway.nn.context import Context
from cutaway.ops import choice
from cutaway.ops.tiled import attend_tiled

FULL = Shape(dim=512, heads=8, longest=32_768)


def test_equal_weights_for_all_and_what_is_small_stays_what_it_is():
    training = AttentionTraining()
    target = parameters(training.setting.usual(84))
    for part in (*PARTS, "sinks:256", "alibi", "block-sparse:64"):
        model = training._model(part, FULL, 84)
        assert abs(parameters(model) - target) <= 0.01 * target, part
        assert type(model.blocks[0].mixer) is type(mixer(part, FULL))
    window, sinks = (shrunk(mixer(part, FULL), FULL, 4, 24, 8, 128) for part in ("window:256", "sinks:256"))
    assert window.window == sinks.window == 32 and sinks.sinks == 4
    assert shrunk(mixer("mla:64", FULL), FULL, 4, 24, 8, 128).rank == 64 * 96 // 512
    assert shrunk(mixer("gqa:2", FULL), FULL, 4, 24, 8, 128).kv_heads == 1


@pytest.mark.parametrize("part", KINDS)
def test_every_kind_reads_the_probes(part):
    probing = Probing(dim=32, heads=2)
    for probe in (Passkey(), Recall()):
        value = shrunk(mixer(part, FULL), FULL, 2, 16, 32, probe.length)
        ids_N = torch.arange(2 * probe.length) % probe.vocab
        logits_NV, _ = probing.decoder(value, probe).build()(ids_N, Context.of((probe.length,) * 2))
        assert logits_NV.shape == (2 * probe.length, probe.vocab) and logits_NV.isfinite().all()
        assert told(value) and told(value) != type(value).__name__


def test_fewer_heads_of_keys_divide_the_heads():
    assert [groups(count, 8, 4) for count in (1, 2, 4, 8)] == [1, 1, 2, 4]
    assert groups(8, 12, 9) == 3, "6 of 9 would not divide"


def test_from_value_to_page(moment, tmp_path, monkeypatch):
    monkeypatch.setattr(attention, "ask", lambda *order, **more: {"prefill_seconds": 1.0, "decode_seconds": 1.0})
    probing = Probing(dim=16, heads=2, rows=2, steps=2, tested=4, seeds=2)
    train = AttentionTraining(
        setting=replace(moment, dim=32), probing=probing, passkey=Passkey(length=8), recall=Recall(length=8, pairs=2)
    )
    comparison = AttentionComparison(parts=("mha", "window:64"), contexts=(64,), dim=64, heads=4, train=train)
    assert from_plain(to_plain(comparison), VALUES) == comparison
    found = {cell.key: figures for cell, figures, _ in measured(comparison, Folder.begin(tmp_path / "run", comparison))}
    assert list(found)[:2] == ["mha at 64", "window:64 at 64"] and len(found) == 2 * (1 + 1 + 2 * 2)
    assert 0.0 <= found["mha, recall, seed 1"]["accuracy"] <= 1.0
    _, losses, asked = comparison.tables(found)
    assert [row[0] for row in losses.rows] == ["mha", "window:64"] and asked.rows[1][
        1
    ] == "2 heads, 2 of keys, window 2"
    assert all(cell.count("%") == 2 for row in asked.rows for cell in row[2:]), "a figure for each seed"
    page = (tmp_path / "run" / "page.html").read_text(encoding="utf-8")
    assert "passkey: right answers" in page and "http" not in page and comparison.page({})


def test_the_attention_that_is_named_is_all_that_runs(moment, tmp_path, monkeypatch):
    """In the processes of the layers, in training and in probes."""
    orders, calls = [], []

    def watched(*given, **told):
        calls.append(cell.key)
        return attend_tiled(*given, **told)

    def unasked(*given, **told):
        raise AssertionError("attention that nobody asked for")

    monkeypatch.setattr(attention, "ask", lambda module, order, **more: orders.append(order) or {})
    tiled = replace(choice.ATTEND["tiled"], form=watched)
    monkeypatch.setattr(choice, "ATTEND", {**choice.ATTEND, "tiled": tiled})
    monkeypatch.setattr(F, "scaled_dot_product_attention", unasked)
    probing = Probing(dim=16, heads=2, rows=2, steps=1, tested=4, seeds=1)
    train = AttentionTraining(
        setting=replace(moment, dim=32), probing=probing, passkey=Passkey(length=8), recall=Recall(length=8, pairs=2)
    )
    comparison = AttentionComparison(
        parts=("mha",), contexts=(64,), dim=64, heads=4, train=train, attend="tiled", threads=1
    )
    for cell in comparison.cells():
        cell.measure()
    assert [order["attend"] for order in orders] == ["tiled"]
    assert list(dict.fromkeys(calls)) == ["mha, seed 0", "mha, passkey, seed 0", "mha, recall, seed 0"]
    page = comparison.page({})
    assert page.count("Attention runs as tiled.") == 2, "of the layers, and of the trainings"
    assert "Attention runs as sdpa." in replace(comparison, attend=None, train=None).page({})


def test_what_cannot_be_made_so_small_is_refused_when_it_is_made():
    train = AttentionTraining()
    train = replace(train, setting=replace(train.setting, dim=8, heads=4, layers=12))
    with pytest.raises(BadInput, match="weights with feeds of"):
        AttentionComparison(parts=("nsa",), contexts=(64,), train=train)
