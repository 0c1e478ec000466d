from __future__ import annotations

import json

import pytest
import torch

from cutaway.cli import machine
from cutaway.cli.main import main
from cutaway.lab import measure

from .folders import rewriter, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(measure, "SECONDS", 0.001)
    monkeypatch.setattr(measure, "SIDE", 32)
    monkeypatch.setattr(measure, "buffer_size", lambda cache, free: 1 << 16)
    monkeypatch.setattr(machine, "_compiler", lambda: None)


SMALL = ["--prompt", "20", "--new", "4"]


def test_tables_for_reading_and_for_each_number_of_streams(folder, quick, capsys):
    assert main(["profile", str(folder), *SMALL, "--streams", "1,3"]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    heads = [line.split(" at ")[0] for line in lines if line.startswith(("prefill", "decode"))]
    assert heads == ["prefill, a prompt of 20 tokens", "decode, 1 stream", "decode, 3 streams"]
    assert sum(line.startswith("feed ") for line in lines) == 3
    assert sum(line.startswith("engine ") and line.endswith("python") for line in lines) == 3
    assert "GB/s" in lines[0] and "FLOP/s in float32" in told.out
    assert not told.err


def test_json_in_plain_units(folder, quick, capsys):
    assert main(["profile", str(folder), *SMALL, "--streams", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [phase["name"] for phase in told["phases"]] == ["prefill", "decode"]
    for phase in told["phases"]:
        assert sum(part["seconds"] for part in phase["parts"]) == pytest.approx(phase["seconds"], rel=1e-9)
        assert phase["tokens_per_second"] == pytest.approx(phase["tokens"] / phase["bare"])
    assert told["bandwidth"] > 0 and told["rates"]["float32"] > 0


def test_a_page(folder, quick, tmp_path, capsys):
    path = tmp_path / "page.html"
    assert main(["profile", str(folder), *SMALL, "--streams", "1", "--html", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    assert "<svg" in text and "http" not in text and "Decode, 1 stream" in text
    assert str(path) in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize("text", ["0", "1,x", "", "1,,2", "257", "-1", "99999999999", "1.5"])
def test_no_list_of_streams(text, capsys):
    assert main(["profile", "no-such-model", "--streams", text]) == 2
    assert "is not a list of numbers from 1 to 256" in capsys.readouterr().err


def test_more_than_the_context_is_refused_before_anything_is_measured(folder, capsys):
    assert main(["profile", str(folder), "--prompt", "500"]) == 2
    error = capsys.readouterr().err
    assert "is more than the model's 512" in error and len(error.splitlines()) == 1


def test_a_model_that_rewrites_is_refused(tmp_path, capsys):
    assert main(["profile", str(rewriter(tmp_path))]) == 2
    assert "encoder-decoder" in capsys.readouterr().err


def test_a_long_run_tells_how_long(folder, quick, monkeypatch, capsys):
    from cutaway.cli import profile

    monkeypatch.setattr(profile, "SLOW", 0.0)
    assert main(["profile", str(folder), *SMALL, "--streams", "1"]) == 0
    assert "about 1 min more" in capsys.readouterr().err
