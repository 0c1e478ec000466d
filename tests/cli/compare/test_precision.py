from __future__ import annotations

import json

import pytest

import cutaway
from cutaway.cli.compare.precision import WEIGHTS
from cutaway.cli.main import main
from cutaway.infer.language import Language
from cutaway.lab.compare import precision
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.text.character import Character


@pytest.fixture
def here(monkeypatch, tmp_path):
    """A folder with a text and a saved model, and cells that take no time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path / "home"))
    (tmp_path / "text.txt").write_text("a text\n" * 50, encoding="utf-8")
    mixer = GroupedQuery(heads=2, kv_heads=1, head_dim=16, rope=Rope(width=16))
    block = Block(mixer=mixer, feed=Gated(hidden=64), before=RMSNorm())
    module = Decoder(vocab=8, dim=32, length=64, norm=RMSNorm(), blocks=(block,)).build()
    cutaway.save(Language(module, Character.train(["a text\n"]).fast()), tmp_path / "mine")
    cutaway.save(Language(module), tmp_path / "mute")
    asked = []

    def ask(name, order, *, threads):
        asked.append(order)
        told = {"weight_bytes": 100, "parameters": 50, "formats": ["int8"], "cache_bytes": 66.0, "perplexity": 5.0}
        return {**told, "write_per_second": 20.0, "read_per_second": 300.0}

    monkeypatch.setattr(precision, "ask", ask)
    return asked


def test_a_table_a_page_and_a_folder(here, tmp_path, capsys):
    order = ["compare", "precision", "mine", "--text", "text.txt", "--threads", "1"]
    assert main(order) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0].split()[:2] == ["weights", "bytes"] and "int4:group=64" in captured.out
    assert "17 cells to measure" in captured.err and (tmp_path / "comparisons/precision/page.html").is_file()
    assert main(order) == 0 and len(here) == 17, "they are there already"


def test_what_is_asked_for_is_what_is_kept(here, capsys):
    told = ["--weights", "int8;int4:group=32,asymmetric", "--cache", "none", "--passages", "2", "--length", "64"]
    assert main(["compare", "precision", "mine", "--text", "text.txt", "--threads", "1", *told, "--json"]) == 0
    kept = json.loads(capsys.readouterr().out)["comparison"]
    assert kept["weights"] == ["int8", "int4:group=32,asymmetric"] and kept["caches"] == []
    assert (kept["passages"], kept["length"], kept["parameters"]) == (
        2,
        64,
        8 * 32 + 32 * 16 * 6 + 32 * 64 * 3 + 3 * 32,
    )
    assert here[0] == {"model": "mine", "text": "text.txt", "weights": "int8", "cache": None} | {
        "threads": 1,
        "count": 2,
        "length": 64,
        "attend": None,
    }


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["mine", "--weights", "int3"], 'weights: no precision is called "int3"'),
        (["mine", "--weights", "int8;;int4"], "--weights: names stand with ; between"),
        (["mine", "--cache", "int4"], 'cache: cannot be kept in "int4"'),
        (["mute"], "mute: came without a tokenizer"),
        (["mine", "--length", "1"], "length: must be at least 2, is 1"),
        (["minilm"], "is an encoder"),
    ],
)
def test_what_cannot_be_is_one_line(here, wrong, message, capsys):
    assert main(["compare", "precision", *wrong, "--text", "text.txt"]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not here


def test_the_names_are_those_of_the_comparison():
    assert tuple(WEIGHTS.split(";")) == precision.WEIGHTS
