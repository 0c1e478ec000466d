"""The comparisons that train, as a person types them: a table, a page, the same again; what is wrong comes first."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch.nn.functional as F

from cutaway.base.errors import BadInput
from cutaway.cli.main import main
from cutaway.ops import choice
from cutaway.ops.tiled import attend_tiled

KINDS = {
    "positions": ("alibi", ["--beyond", "2"]),
    "norms": ("pre-rms", []),
    "activations": ("geglu", []),
    "experts": ("softmax+loss", ["--experts", "4"]),
}


@pytest.fixture
def corpus(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("".join(f"{n} 三国演义 cats.\n" for n in range(700)), encoding="utf-8")
    return ["--corpus", "text.txt", "--quick", "--steps", "2"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_a_page_and_the_same_again(corpus, tmp_path, capsys, kind):
    part, more = KINDS[kind]
    order = ["compare", kind, "--parts", part, *corpus, *more, "--json"]
    assert main(order) == 0
    first = capsys.readouterr()
    figures = json.loads(first.out)
    assert figures["comparison"]["setting"]["steps"] == 2 and f"{part}, seed 0" in figures["cells"]
    assert "to measure, about" in first.err
    assert "http" not in (tmp_path / "comparisons" / kind / "page.html").read_text(encoding="utf-8")
    assert main(order[:-1]) == 0
    again = capsys.readouterr()
    assert "are there already" in again.err and part in again.out and "±" not in again.out, "one seed has no spread"


def unasked(*given, **told):
    raise AssertionError("attention that nobody asked for")


@pytest.mark.parametrize("kind", KINDS)
def test_the_attention_that_is_named_is_all_that_runs(corpus, tmp_path, capsys, monkeypatch, kind):
    calls = []

    def watched(*given, **told):
        calls.append(kind)
        return attend_tiled(*given, **told)

    tiled = replace(choice.ATTEND["tiled"], form=watched)
    monkeypatch.setattr(choice, "ATTEND", {**choice.ATTEND, "tiled": tiled})
    monkeypatch.setattr(F, "scaled_dot_product_attention", unasked)
    part, more = {**KINDS, "positions": ("rope", ["--beyond", "2"])}[kind]
    order = ["compare", kind, "--parts", part, *corpus, *more, "--attend"]
    assert main([*order, "tiled", "--json"]) == 0
    assert calls and json.loads(capsys.readouterr().out)["comparison"]["attend"] == "tiled"
    page = (tmp_path / "comparisons" / kind / "page.html").read_text(encoding="utf-8")
    assert "Attention runs as tiled." in page
    assert main([*order, "naive"]) == 2
    assert 'attend: is "tiled" in what the folder holds, and "naive" here' in " ".join(capsys.readouterr().err.split())


def test_a_folder_of_before_names_no_attention_and_goes_on(corpus, tmp_path, capsys):
    order = ["compare", "activations", "--parts", "geglu", *corpus]
    assert main(order) == 0
    card = tmp_path / "comparisons" / "activations" / "comparison.json"
    held = json.loads(card.read_text(encoding="utf-8"))
    assert held["comparison"].pop("attend") is None
    card.write_text(json.dumps(held), encoding="utf-8")
    capsys.readouterr()
    assert main(order) == 0
    assert "are there already" in capsys.readouterr().err
    assert "Attention runs as sdpa." in (card.parent / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_an_attention_that_cannot_run_here_is_said_first(corpus, tmp_path, capsys, monkeypatch, kind):
    lacking = replace(choice.ATTEND["triton"], lacks=lambda: BadInput("no GPU is here", field="attend"))
    monkeypatch.setattr(choice, "ATTEND", {**choice.ATTEND, "triton": lacking})
    assert main(["compare", kind, *corpus, "--attend", "triton"]) == 2
    assert "attend: no GPU is here" in capsys.readouterr().err and not (tmp_path / "comparisons").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_by_default_are_those_of_the_comparison(kind):
    from importlib import import_module

    command = import_module(f"cutaway.cli.compare.{kind}")
    room = import_module(f"cutaway.lab.compare.{kind}")
    (made,) = (one for name, one in vars(room).items() if name.endswith("Comparison"))
    assert tuple(command.PARTS.split(",")) == made().parts


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--parts", "reluu"], 'did you mean "relu"'),
        (["--corpus", "nowhere.txt"], "nowhere.txt"),
        (["--corpus", "short.txt"], "too few"),
        (["--steps", "0"], "--steps"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_measured(corpus, tmp_path, capsys, change, said):
    (tmp_path / "short.txt").write_text("short", encoding="utf-8")
    assert main(["compare", "activations", *corpus, *change]) in (1, 2)
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "comparisons").exists()
