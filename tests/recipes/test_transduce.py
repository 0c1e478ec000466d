from __future__ import annotations

import math

import pytest

import cutaway
from cutaway.base.errors import BadInput
from cutaway.recipes.table import made
from cutaway.recipes.training import Training
from cutaway.recipes.transduce import unigram
from cutaway.train.run import Run

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


def test_translate_learns_pairs_of_any_sheet(tmp_path):
    rows = [f"书\t{at}\t学而时习之{at}\t学习并且时常复习{at}" for at in range(120)]
    (tmp_path / "pairs.tsv").write_text("\n".join(rows), encoding="utf-8")
    changes = (f"corpus={tmp_path / 'pairs.tsv'}", "task.corpus.validation=0.1", "dim=32")
    lines = go(tmp_path / "run", "translate", *changes)
    assert lines[-1]["val_loss"] < lines[3]["val_loss"]


def test_a_unigram_model_is_as_good_as_its_counts():
    # Three tokens and the end, each as often as the others: log 4, but for the one that is added to each count.
    assert unigram([[2, 3, 4]] * 4000, [[2, 3, 4]], 5) == pytest.approx(math.log(4), abs=1e-3)


def test_sizes_below_one_are_refused():
    with pytest.raises(BadInput, match="rows"):
        made("t5-tiny", ["rows=0"])
