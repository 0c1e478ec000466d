from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutaway.base.seeds import seed_all
from cutaway.lab.bound import traffic
from cutaway.lab.profile.work import Work, mean, work
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.positions import Learned

F32 = torch.float32


def test_flops_are_those_that_the_model_answers_itself(every):
    spans = [(1, 30), (1, 17), (5, 9)]
    found = work(every.module, spans, sum(count for count, _ in spans), F32)
    assert sum(one.flops for one in found.values()) == sum(every.spec.cost(*span).flops for span in spans)
    # Only tokens whose logits are asked for meet the head.
    fewer = work(every.module, spans, 3, F32)
    assert found["head"].flops - fewer["head"].flops == 2 * 4 * 32 * 96


def test_bytes_are_all_weights_once_and_what_the_cache_holds(every):
    found = work(every.module, [(1, 30)], 1, F32)
    weights = sum(found[part].bytes for part in ("norms", "projections", "feed", "head"))
    feeds = [block.feed for block in every.spec.blocks if isinstance(block.feed, Experts)]
    idle = sum(2 * 4 * feed.expert.cost(32, 1, 1).parameters for feed in feeds)  # 2 of 4 experts
    assert weights == traffic(every.module) - idle
    held = sum(stream.bytes(30) for layer in every.spec.streams() for stream in layer)
    assert found["attention"].bytes == held
    assert found["embedding"].bytes == 32 * 4 and found["sampling"].bytes == 96 * 4


def test_many_tokens_need_all_experts(every, kind):
    one, many = (work(every.module, [(count, 30)], 1, F32)["feed"].bytes for count in (1, 2))
    assert (many > one) == (kind == "experts")
    assert work(every.module, [(30, 30)], 1, F32)["feed"].bytes == many


def test_what_is_written_is_the_rows_that_end_in_the_span(every, kind):
    whole = work(every.module, [(20, 20)], 1, F32)["cache"].bytes
    parts = [work(every.module, [(1, length)], 1, F32)["cache"].bytes for length in range(1, 21)]
    assert whole == sum(parts[-1:] if kind == "gated delta" else parts) > 0  # a state is written once a pass
    if kind == "grouped":
        assert set(parts) == {2 * 2 * 2 * 8 * 4}  # blocks, key and value, kv heads, dims, bytes


def test_positions_and_a_head_of_its_own_are_read(one):
    seed_all(0)
    spec = replace(one.spec, positions=Learned(length=256), tied=False)
    found = work(spec.build(), [(1, 9), (1, 9)], 2, F32)
    assert found["positions"].bytes == 2 * 32 * 4
    assert found["head"].bytes == 32 * 96 * 4
    assert work(spec.build(), [(2, 9)], 0, F32)["head"] == Work(0.0, 0.0)


def test_the_least_time_is_the_slower_of_reading_and_multiplying():
    assert Work(100.0, 8.0).least(bandwidth=50.0, rate=8.0) == 2.0
    assert Work(100.0, 80.0).least(bandwidth=50.0, rate=8.0) == 10.0
    assert mean([{"a": Work(2.0, 4.0)}, {"a": Work(4.0, 0.0), "b": Work(2.0)}]) == {"a": Work(3.0, 2.0), "b": Work(1.0)}


def test_a_cache_in_another_dtype(one):
    found = [work(one.module, [(1, 30)], 1, dtype)["attention"].bytes for dtype in (F32, torch.bfloat16)]
    assert found[0] == pytest.approx(2 * found[1])
