"""The tour's stop for a part of one's own: what it carries passes, the broken line is named, the model answers."""

from __future__ import annotations

import os

import pytest
import torch

from cutaway.base.errors import CutawayError
from cutaway.cli import own_part
from cutaway.cli.streaming import Reading
from cutaway.lab.swap import example
from cutaway.lab.swap.judge import judge
from cutaway.lab.swap.table import PARTS

from .folders import tiny


def test_the_attention_passes_and_the_broken_line_is_named():
    assert judge(PARTS["ops.attend"], example.attend).passed
    assert example.written().count(example.LINE) == 1
    room: dict = {}
    exec(example.broken(), room)
    verdict = judge(PARTS["ops.attend"], room["attend"])
    assert (verdict.outcome, verdict.broke) == ("fails", "cache offset")
    # What follows from hidden keys is not told as a fault of its own.
    assert not [one for one in verdict.others if one.startswith(("scale", "scores", "softcap", "large"))]


@pytest.mark.skipif(os.name == "nt", reason="limits are Unix's")
@pytest.mark.proof
def test_the_whole_stop(tmp_path, capsys):
    torch.set_num_threads(1)
    said: list[str] = []
    section = own_part.own_part(str(tiny(tmp_path / "tiny")), 1, "Who?", said.append)
    text = "\n".join(said)
    assert "raise NotImplementedError" in text and "logsumexp" in text
    assert "ops.attend: passes" in text and "ops.attend fails: cache offset" in text
    assert section is not None and "cache offset" in section.body and "tokens" in section.body
    assert "tokens/s, ours" in capsys.readouterr().err


def test_where_nothing_can_be_started_it_is_left_out(monkeypatch):
    def refuse(*given):
        raise CutawayError("the process for your file did not start")

    monkeypatch.setattr(own_part, "_verdict", refuse)
    said: list[str] = []
    assert own_part.own_part("tiny", 1, "Who?", said.append) is None
    assert said[-1] == "Left out: the process for your file did not start"


def test_the_page_has_what_was_said(monkeypatch):
    monkeypatch.setattr(own_part, "_verdict", lambda folder, name, text, threads: f"{name} <judged>")
    monkeypatch.setattr(own_part, "_answer", lambda *given: Reading())
    section = own_part.own_part("tiny", 1, "Who?", lambda text: None)
    assert section is not None and "mine.py &lt;judged&gt;" in section.body and "broken.py" in section.body
