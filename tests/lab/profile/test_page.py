from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutaway.lab.profile.page import HEAD, PARTS, cells, flops_rate, in_words, profile_page, title
from cutaway.lab.profile.phase import Line, Phase, Profile
from cutaway.lab.profile.watch import PARTS as WATCHED
from cutaway.lab.profile.work import Work

LINES = (
    Line(part="feed", seconds=0.006, calls=90.0, work=Work(10e6, 1e6), where=("torch",)),
    Line(part="head", seconds=0.003, calls=1.0, work=Work(1e6, 15e6), where=("cpu", "torch")),
    Line(part="engine", seconds=0.001, calls=3.0, work=Work(), where=("python",)),
    Line(part="rest", seconds=0.0, calls=0.0, work=Work(), where=("torch",)),
)
PHASE = Phase(
    name="decode",
    streams=16,
    tokens=16,
    length=544,
    steps=64,
    seconds=0.010,
    bare=0.008,
    narrow=None,
    lines=LINES,
)
PROFILE = Profile(model="<tiny>", dtype=torch.float32, bandwidth=5e9, rates={torch.float32: 10e9}, phases=(PHASE,))


def test_a_line_says_what_bounds_it():
    assert len(HEAD) == 8
    assert cells(PROFILE, PHASE, LINES[0]) == ("feed", "6 ms", "60.0%", "10 MB", "1M", "1.67 GB/s", "33%", "torch")
    head = ("head", "3 ms", "30.0%", "1 MB", "15M", "5 GFLOP/s", "50%", "cpu, torch")
    assert cells(PROFILE, PHASE, LINES[1]) == head
    assert cells(PROFILE, PHASE, LINES[2]) == ("engine", "1 ms", "10.0%", "", "", "", "", "python")


def test_a_share_too_small_for_a_number():
    assert cells(PROFILE, PHASE, replace(LINES[0], seconds=1.0))[6] == "< 1%"


def test_a_phase_in_words():
    assert title(PHASE) == "decode, 16 streams at 544 tokens"
    assert title(replace(PHASE, streams=1)) == "decode, 1 stream at 544 tokens"
    assert title(replace(PHASE, name="prefill", tokens=512)) == "prefill, a prompt of 512 tokens"
    text = in_words(PROFILE, PHASE)
    assert text == (
        "8 ms a step, 2000 tokens/s: 44% of what bandwidth and matmul rate allow. Feed takes 60%, the engine itself "
        "12.5%. Watching costs +25%."
    )


@pytest.mark.parametrize(
    ("rate", "text"), [(28.6e9, "28.6 GFLOP/s"), (4.0, "4 FLOP/s"), (1.2e12, "1.2 TFLOP/s"), (0.0, "0 FLOP/s")]
)
def test_rates(rate, text):
    assert flops_rate(rate) == text


def test_every_part_is_told_of():
    assert tuple(PARTS) == WATCHED


def test_the_page_stands_alone_and_has_a_bar_for_each_part():
    text = profile_page(PROFILE, "a <processor>")
    assert text.count("<rect") == 2 * len(LINES) and "Decode, 16 streams" in text
    assert "&lt;tiny&gt;" in text and "<tiny>" not in text and "a &lt;processor&gt;" in text
    for outside in ("http", "src=", "@import", "url(", "<script"):
        assert outside not in text, outside
    assert text.index(">feed<") < text.index(">head<") < text.index(">engine<")
