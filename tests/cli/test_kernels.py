"""`cutaway doctor` tells of the kernels in every state that they can be in, and builds them."""

from __future__ import annotations

import json

import pytest

from cutaway.base.errors import CutawayError
from cutaway.cli import kernels
from cutaway.cli.main import main
from cutaway.ops.cpu.first_use import Found

CASES = {
    "built": "built for avx2: what multiplies quantised weights",
    "building": "being compiled in the background; torch multiplies meanwhile",
    "missing": "not compiled: the next answer begins it in the background, `cutaway doctor --build` does it now",
    "failed": "failed: g++ failed: error: no; `cutaway doctor --build` tries again",
    "impossible": "none: g++ failed: error: no",
    "off": "off, as CUTAWAY_KERNELS asks",
}


def found(state, tmp_path) -> Found:
    built = {"set": "avx2", "path": tmp_path / "a.so", "compiler": "g++ 12"} if state == "built" else {}
    why = "g++ failed: error: no" if state in ("failed", "impossible") else None
    return Found(state=state, why=why, **built)


@pytest.mark.parametrize("state", CASES)
def test_every_state_in_words(monkeypatch, tmp_path, state):
    monkeypatch.delenv("CUTAWAY_KERNELS", raising=False)
    monkeypatch.setattr(kernels, "look", lambda asked: found(state, tmp_path))
    report = kernels.found()
    told = kernels.in_words(report)
    assert report["state"] == state and told["state"] == CASES[state]
    assert list(told)[1:] == (["compiled by", "library"] if state == "built" else [])
    monkeypatch.setenv("CUTAWAY_KERNELS", " avx2 ")
    assert kernels.in_words(kernels.found())["CUTAWAY_KERNELS"] == "avx2"


@pytest.mark.parametrize("value", ["", "off", "on", "avx2"])
def test_build_compiles_now_also_where_they_are_off(monkeypatch, tmp_path, capsys, value):
    asked, texts = [], []

    def build(what, told):
        asked.append(what)
        told(1, 3)
        return found("built", tmp_path)

    monkeypatch.setenv("CUTAWAY_KERNELS", value)
    monkeypatch.setattr(kernels, "look", lambda what: found("missing", tmp_path))
    monkeypatch.setattr(kernels, "build", build)
    monkeypatch.setattr(kernels, "opened", lambda path: None)
    kernels.build_now(texts.append)
    assert asked == ["avx2" if value == "avx2" else "on"] and texts == ["compiling kernels: 1 of 3 files"]
    err = capsys.readouterr().err
    assert "half a minute" in err and "kernels for avx2 are built: " in err.replace("\n", " ")


def test_what_was_built_is_told_as_json(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CUTAWAY_KERNELS", "off")
    monkeypatch.setattr(kernels, "look", lambda what: found("missing", tmp_path))
    monkeypatch.setattr(kernels, "build", lambda what, told: found("built", tmp_path))
    monkeypatch.setattr(kernels, "opened", lambda path: None)
    assert main(["doctor", "--build", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["kernels"]
    assert (told["state"], told["asked"], told["library"]) == ("built", "off", str(tmp_path / "a.so"))
    assert main(["doctor", "--build"]) == 0 and capsys.readouterr().out == ""


def test_a_build_that_fails_is_one_line_and_exit_code_1(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(kernels, "look", lambda what: found("failed", tmp_path))
    monkeypatch.setattr(kernels, "build", lambda what, told: found("failed", tmp_path))
    with pytest.raises(CutawayError, match="no kernels: g\\+\\+ failed: error: no"):
        kernels.build_now(lambda text: None)
    capsys.readouterr()
    assert main(["doctor", "--build"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.splitlines()[-1] == "error: no kernels: g++ failed: error: no"
