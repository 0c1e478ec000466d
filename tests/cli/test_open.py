from __future__ import annotations

import json
import math
import re

import pytest
import torch
from rich.cells import cell_len
from safetensors.torch import load_file, save_file

from cutaway.cli.main import main

from .folders import spec, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return str(tiny(tmp_path_factory.mktemp("models") / "tiny"))


def test_the_tree_is_folded(folder, capsys):
    assert main(["open", folder]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0] == f"{folder}: vocab 258, dim 32, 3 blocks, context 512, tied head"
    cost = spec().cost(1, 512)
    assert f"{cost.flops / 1e6:.0f} million FLOPs a token at 512" in lines[1]
    assert "├─ blocks.0-2  3 alike" in captured.out and "nn/attention/grouped.py:" in captured.out
    assert "\x1b" not in captured.out, "a pipe gets plain text"
    assert "--all shows all" in captured.err


def test_all_unfolds(folder, capsys):
    assert main(["open", folder, "--all"]) == 0
    out = capsys.readouterr().out
    assert all(f"─ blocks.{index} " in out for index in range(3)) and "alike" not in out


def test_json_has_the_numbers_of_the_value(folder, capsys):
    assert main(["open", folder, "--json", "--length", "100"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown.keys() == {"schema", "model", "architecture", "length", "parts"}
    root, cost = shown["parts"], spec().cost(1, 100)
    assert (root["parameters"], root["flops_per_token"]) == (cost.parameters, cost.flops)
    assert root["cache_bytes_at_length"] == cost.cache_bytes
    assert shown["architecture"]["blocks"] == 3 and shown["architecture"]["vocab"] == 258
    block = root["children"][1]["children"][2]
    assert block["path"] == "blocks.2" and block["value"] == "Block"
    assert set(block) == {
        *("path", "kind", "value", "shape", "parameters", "share", "flops_per_token", "cache_bytes_per_token"),
        *("cache_bytes_at_length", "bytes", "formats", "file", "line", "children"),
    }


def test_a_length_beyond_the_context_is_refused(folder, capsys):
    assert main(["open", folder, "--length", "513"]) == 2
    assert capsys.readouterr().err == "error: length: must be from 1 to the model's 512, is 513\n"


def test_a_part_is_shown_with_its_value_and_its_numbers(folder, capsys):
    assert main(["open", folder, "--part", "blocks.1.mixer"]) == 0
    captured = capsys.readouterr()
    assert "blocks.1.mixer: GroupedQueryAttention (nn/attention/grouped.py:" in captured.out
    assert "built by GroupedQuery(heads=4, kv_heads=2, head_dim=8" in captured.out
    weight = load_file(f"{folder}/model.safetensors")["model.layers.1.self_attn.q_proj.weight"]
    row = next(line for line in captured.out.splitlines() if line.startswith("query.weight")).split("  ")
    row = [cell.strip() for cell in row if cell.strip()]
    assert row[1:4] == ["32 × 32", "f32", "4.1 kB"]
    assert row[4:] == [f"{float(x):.4g}" for x in (weight.mean(), weight.std(correction=0), weight.min(), weight.max())]
    assert "cutaway explain grouped-query" in captured.err


def test_a_part_as_json(folder, capsys):
    assert main(["open", folder, "--part", "blocks.0.feed.up", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["part"]["path"] == "blocks.0.feed.up"
    assert [tensor["name"] for tensor in shown["tensors"]] == ["blocks.0.feed.up.weight"]
    assert shown["tensors"][0]["nan"] == 0 and shown["tensors"][0]["count"] == 64 * 32


def test_an_unknown_part_gets_the_nearest(folder, capsys):
    assert main(["open", folder, "--part", "blocks.1.mixr"]) == 2
    assert capsys.readouterr().err == 'error: part: no part is called "blocks.1.mixr"; did you mean "blocks.1.mixer"?\n'


def test_check_finds_nothing_in_sound_weights(folder, capsys):
    assert main(["open", folder, "--check"]) == 0
    total = spec().cost(1, 1).parameters
    assert capsys.readouterr().out == f"29 tensors, {total:,} numbers: all finite\n"
    assert main(["open", folder, "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["faults"] == []


def test_check_names_tensors_that_are_not_finite(tmp_path, capsys):
    folder = tiny(tmp_path / "broken", blocks=1)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][3, 4] = math.nan
    tensors["model.layers.0.mlp.up_proj.weight"][0] = math.inf
    tensors["model.norm.weight"][1] = -math.inf
    save_file(tensors, folder / "model.safetensors")
    assert main(["open", str(folder), "--check", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["faults"] == [
        {"tensor": "blocks.0.feed.up.weight", "format": "f32", "nan": 1, "infinite": 32, "of": 2048},
        {"tensor": "norm.weight", "format": "f32", "nan": 0, "infinite": 1, "of": 32},
    ]
    assert main(["open", str(folder), "--check"]) == 1
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == [
        "blocks.0.feed.up.weight",
        "norm.weight",
    ]
    assert main(["open", str(folder), "--prompt", "x"]) == 2
    assert "NaN or infinite numbers in blocks.0.feed.up.weight, norm.weight" in capsys.readouterr().err


def test_a_prompt_is_shown_block_by_block(folder, capsys):
    assert main(["open", folder, "--prompt", "你好, world"]) == 0
    captured = capsys.readouterr()
    table = captured.out.split("tokens):\n")[1].splitlines()
    assert table[0].split() == ["block", "residual", "attention", "guess", "then"]
    assert [line.split()[0] for line in table[1:]] == ["0", "1", "2"]
    for line in table[1:]:
        assert re.search(r'[▁▂▃▄▅▆▇█]{4} +".*" \d+%', line), line


def test_a_prompt_as_json_has_every_number(folder, capsys):
    assert main(["open", folder, "--prompt", "hi", "--chat", "--json"]) == 0
    lens = json.loads(capsys.readouterr().out)["prompt"]
    assert lens["pieces"] == ["<s>", "h", "i", "</s>", "<s>"] and lens["places"] == [4]
    assert len(lens["layers"]) == 3 and len(lens["layers"][0]["entropies"][0]) == 4
    assert lens["layers"][0]["guesses"][0][0].keys() == {"token", "piece", "probability"}


def test_chat_without_a_prompt_is_refused_before_anything_is_opened(capsys):
    assert main(["open", "no/such/model", "--chat"]) == 2
    assert capsys.readouterr().err == "error: --chat: goes with --prompt\n"


def test_the_page_stands_alone(folder, tmp_path, capsys):
    page = tmp_path / "页.html"
    assert main(["open", folder, "--html", str(page), "--prompt", "<b>你</b>"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and f"written: {page}" in captured.err.replace("\n", "")
    text = page.read_text(encoding="utf-8")
    for outside in ("http", "src=", "href", "@import", "url(", "<script"):
        assert outside not in text, outside
    assert "30 alike" not in text and "3 alike" in text and "<svg" in text and "prefers-color-scheme: dark" in text
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_a_terminal_is_never_overrun(folder, columns, monkeypatch, capsys):
    from cutaway.cli import console, drawing

    made = console.Quiet(force_terminal=True, width=columns, highlight=False, no_color=True)
    monkeypatch.setattr(drawing, "results", lambda: made)
    assert main(["open", folder, "--prompt", "你好"]) == 0
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in capsys.readouterr().out.splitlines()]
    start = next(index for index, line in enumerate(lines) if line.startswith("part "))
    drawn = [line for line in lines[start:] if not line.startswith("behind ")]
    assert all(cell_len(line.rstrip()) <= columns for line in drawn)
    assert any("grouped.py:" in line for line in drawn), "the source is told at any width"


def test_an_encoder_is_opened_and_not_asked_what_comes_next(tmp_path, capsys):
    from cutaway.infer.language import Language
    from cutaway.infer.save import save
    from cutaway.models.encoder import Encoder
    from cutaway.models.pooler import Pooler
    from cutaway.nn.attention.grouped import GroupedQuery
    from cutaway.nn.block import Block
    from cutaway.nn.feedforward import Plain
    from cutaway.nn.norms import LayerNorm
    from cutaway.nn.positions import Learned

    norm = LayerNorm(eps=1e-12)
    mixer = GroupedQuery(heads=2, kv_heads=2, head_dim=8, bias=True, out_bias=True)
    block = Block(mixer=mixer, feed=Plain(hidden=32), outside=norm)
    value = Encoder(
        vocab=50,
        dim=16,
        blocks=(block,) * 2,
        length=32,
        positions=Learned(length=32),
        kinds=2,
        embedding_norm=norm,
        pooler=Pooler(),
    )
    folder = str(save(Language(value.build()), tmp_path / "bert"))
    assert main(["open", folder]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{folder}: vocab 50, dim 16, 2 blocks, context 32, no head")
    assert "encoder " in out and "pooler" in out and "models/encoder.py:" in out and "cache 0 B a token" in out
    assert main(["open", folder, "--json", "--length", "4"]) == 0
    assert json.loads(capsys.readouterr().out)["parts"]["flops_per_token"] == value.cost(1, 4).flops
    assert main(["open", folder, "--html", str(tmp_path / "page.html")]) == 0
    capsys.readouterr()
    for command in (["generate", folder, "hi"], ["logits", folder, "hi"], ["chat", folder]):
        assert main(command) == 2
        assert "is an encoder: it turns texts to vectors" in capsys.readouterr().err
