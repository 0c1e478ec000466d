from __future__ import annotations

from collections import Counter

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.lab.profile import phase as module
from cutaway.lab.profile.phase import Line, Phase, Profile, Step, quicker, reading, request, room_for, writing
from cutaway.lab.profile.watch import PARTS, Watch
from cutaway.lab.profile.work import Work


def test_a_prompt_and_its_parts(every, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", float("inf"))  # a busy machine would read fewer
    found = reading(every, 20)
    assert (found.name, found.tokens, found.length, found.steps) == ("prefill", 20, 20, module.READINGS)
    assert [line.part for line in found.lines] == list(PARTS)
    # Every moment between start and stop is some part's; only sums are rounded.
    assert sum(line.seconds for line in found.lines) == pytest.approx(found.seconds, rel=1e-9)
    total = every.spec.cost(20, 20).flops - 19 * 2 * 32 * 96  # logits of the last token alone
    assert sum(line.work.flops for line in found.lines) == total
    assert found.rate == 20 / found.bare > 0


def test_a_slow_model_is_read_as_often_as_is_needed(one, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    assert reading(one, 20).steps == 2


def test_a_prompt_in_pieces_is_a_whole_step(one, monkeypatch):
    monkeypatch.setattr(module, "BUDGET", 8)
    whole = one.spec.cost(20, 20).flops - 19 * 2 * 32 * 96
    assert sum(line.work.flops for line in reading(one, 20).lines) == whole


def test_streams_write_together(every):
    shown = []
    found = writing(every, 20, 6, 3, lambda items, what: shown.append((what, len(items))) or items)
    assert shown == [("reading", 3), ("writing", 6)]
    assert (found.name, found.streams, found.tokens, found.steps) == ("decode", 3, 3, 6)
    assert 20 + 3 <= found.length <= 20 + room_for(20, 6, 3)
    assert sum(line.seconds for line in found.lines) == pytest.approx(found.seconds, rel=1e-9)
    head = next(line for line in found.lines if line.part == "head")
    assert head.work.flops == 3 * 2 * 32 * 96
    assert next(line for line in found.lines if line.part == "engine").where == ("python",)
    assert found.outside > 0


def test_no_two_prompts_share_a_page(one):
    prompts = [request(one, 40, 1, seed).prompt for seed in range(20)]
    assert len({prompt[:16] for prompt in prompts}) == 20
    assert all(0 <= id < 96 for prompt in prompts for id in prompt)


def test_a_context_too_short_is_refused(one):
    with pytest.raises(BadInput, match="more than the model's context of 256"):
        reading(one, 256)


def test_the_quicker_half_is_kept():
    steps = [Step(seconds=one) for one in (5.0, 1.0, 4.0, 2.0, 3.0)]
    assert [one.seconds for one in quicker(steps)] == [1.0, 2.0, 3.0]
    assert quicker(steps[:1]) == steps[:1]


def made(watched: list[float], bare: list[float]) -> Phase:
    steps = [Step(seconds=one, parts={"feed": 0.75 * one, "engine": 0.25 * one}, calls=Counter()) for one in watched]
    steps += [Step(seconds=one) for one in bare]
    return module.phase("decode", steps, Watch(), {"feed": Work(6.0, 1.0)}, streams=2, tokens=2, length=9)


def test_what_watching_costs_and_what_the_engine_takes():
    found = made([4.0, 8.0, 4.0], [2.0, 9.0])
    assert (found.seconds, found.bare) == (4.0, 2.0)
    assert (found.overhead, found.rate, found.outside) == (1.0, 1.0, 0.5)


@pytest.mark.parametrize(("watched", "bare"), [([], [1.0]), ([1.0], [])])
def test_both_kinds_of_steps_are_needed(watched, bare):
    with pytest.raises(BadInput, match="too few steps"):
        made(watched, bare)


def test_the_roof_is_that_of_the_dtypes_that_are_computed_in():
    phase = made([4.0], [4.0])
    rates = {torch.float32: 1.0, torch.bfloat16: 100.0}
    found = Profile(model="m", dtype=torch.float32, bandwidth=4.0, rates=rates, phases=(phase,))
    feed, engine = (next(line for line in phase.lines if line.part == part) for part in ("feed", "engine"))
    assert found.rate(phase) == 1.0
    assert found.least(phase, feed) == 1.5 and found.share(phase, feed) == 0.5 and found.reached(phase) == 0.375
    assert found.share(phase, engine) is None
    assert {line.part: line.where for line in phase.lines if line.where} == {"feed": ("torch",), "engine": ("python",)}
    narrow = Phase(**{**vars(phase), "narrow": torch.bfloat16})
    assert found.rate(narrow) == 100.0
    assert Line(part="x", seconds=0.0, calls=0.0, work=Work(1.0), where=()).seconds == 0.0
