from __future__ import annotations

import math

import pytest
import torch
import transformers

import cutaway
from cutaway.base.errors import BadInput
from cutaway.cli.main import main
from cutaway.recipes.table import made
from cutaway.recipes.training import Training
from cutaway.recipes.transduce import unigram
from cutaway.train.run import Run

transformers.utils.logging.disable_progress_bar()

SMALL = ["steps=8", "layers=1", "heads=2", "dim=16", "hidden=16", "rows=4", "evaluate=4"]


def go(folder, name: str, *changes: str) -> list[dict]:
    recipe = made(name, [*SMALL, *changes])
    training = Training.ready(recipe, Run.create(folder, name, recipe), print)
    return [moment.line for moment in training.steps()]


def test_t5_tiny_becomes_a_folder_that_writes(tmp_path):
    lines = go(tmp_path / "run", "t5-tiny", "task.corpus.count=60", "task.corpus.held=10")
    assert lines[-1]["loss"] < lines[0]["loss"] and 0 <= lines[-1]["val_exact"] <= 1
    writer = cutaway.load(tmp_path / "run")
    assert writer.generate("reverse: abc", max_tokens=4).tokens
    sample = (tmp_path / "run" / "samples" / "after.txt").read_text(encoding="utf-8")
    assert sample.count("->") == sample.count("==") == 6


def translated(tmp_path, *changes: str) -> list[dict]:
    rows = [f"书\t{at}\t学而时习之{at}\t学习并且时常复习{at}" for at in range(120)]
    (tmp_path / "pairs.tsv").write_text("\n".join(rows), encoding="utf-8")
    corpus = (f"corpus={tmp_path / 'pairs.tsv'}", "task.corpus.validation=0.1", "dim=32")
    return go(tmp_path / "run", "translate", *corpus, *changes)


def test_translate_learns_pairs_of_any_sheet(tmp_path):
    lines = translated(tmp_path)
    assert lines[-1]["val_loss"] < lines[3]["val_loss"]


@pytest.mark.parametrize("name", ["t5-tiny", "translate"])
def test_a_run_is_a_folder_that_transformers_loads(name, tmp_path, capsys):
    if name == "translate":
        translated(tmp_path)
        source = "学而时习之7"
    else:
        go(tmp_path / "run", name, "task.corpus.count=60", "task.corpus.held=10")
        source = "reverse: abc"
    ours = cutaway.load(tmp_path / "run", device="cpu")
    theirs, told = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "run", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    source_BS = transformers.AutoTokenizer.from_pretrained(tmp_path / "run")(source, return_tensors="pt")["input_ids"]
    assert source_BS[0].tolist() == ours.encode(source) and source_BS[0, -1] == 1
    target_BT = torch.tensor([[0, 3, 4, 5, 1]])
    with torch.no_grad():
        expected = theirs.eval()(input_ids=source_BS, decoder_input_ids=target_BT).logits
        # Float32, two blocks: they add up in different orders.
        torch.testing.assert_close(ours(source_BS, target_BT), expected, atol=1e-5, rtol=1e-5)
        written = theirs.generate(source_BS, max_new_tokens=9, do_sample=False)[0, 1:].tolist()
    answer = ours.generate(source, max_tokens=9)
    assert list(answer.tokens) == written
    capsys.readouterr()
    assert main(["generate", str(tmp_path / "run"), source, "--max-tokens", "9"]) == 0
    assert capsys.readouterr().out == answer.text + "\n"


def test_a_shape_without_a_home_stays_in_its_checkpoints(tmp_path):
    translated(tmp_path, "task.model.encoder.positions.interleaved=true")
    assert not (tmp_path / "run" / "config.json").exists() and any((tmp_path / "run" / "checkpoints").iterdir())


def test_a_unigram_model_is_as_good_as_its_counts():
    # Three tokens and the end, each as often as the others: log 4, but for the one that is added to each count.
    assert unigram([[2, 3, 4]] * 4000, [[2, 3, 4]], 5) == pytest.approx(math.log(4), abs=1e-3)


def test_sizes_below_one_are_refused():
    with pytest.raises(BadInput, match="rows"):
        made("t5-tiny", ["rows=0"])
