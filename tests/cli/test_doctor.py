from __future__ import annotations

import json

import pytest

from cutaway.cli.main import main
from cutaway.lab import measure


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path))
    monkeypatch.setattr(measure, "read_bandwidth", lambda size: 20.26e9)
    monkeypatch.setattr(measure, "copy_bandwidth", lambda size: 30e9)
    monkeypatch.setattr(measure, "matmul_rate", lambda dtype: None if "int8" in str(dtype) else 250e9)


def test_the_table_has_every_section(capsys):
    assert main(["doctor"]) == 0
    captured = capsys.readouterr()
    sections = [line.split()[0] for line in captured.out.splitlines()[1:] if not line.startswith(" ")]
    assert sections == ["machine", "torch", "kernels", "forms", "attend", "measured", "cutaway"]
    assert "20.3 GB/s" in captured.out and "250 Gop/s" in captured.out and "not on this build" in captured.out
    assert "attend" in captured.out and captured.err == ""


def test_json_holds_plain_numbers(capsys):
    assert main(["doctor", "--json", "--threads", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["measured"]["read_bytes_per_second"] == 20.26e9
    assert report["measured"]["int8_operations_per_second"] is None
    assert report["torch"]["threads"] == 1
    assert report["machine"]["cores"] >= 1 and isinstance(report["machine"]["features"], list)
    assert report["forms"]["attend"]["readable"]
    assert [name for name, one in report["attend"].items() if one["runs"]] == ["sdpa"]


def test_the_attention_that_runs_is_named_and_the_others_are_told_how_to_ask_for(capsys):
    assert main(["doctor"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "sdpa runs, as nothing else is asked for" in out and "tiled by --attend tiled: FlashAttention" in out


@pytest.fixture(autouse=True)
def keep_threads():
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
