from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.recipes.table import made
from cutaway.recipes.training import Training
from cutaway.train.run import Run


def test_bert_mini_becomes_a_folder(tmp_path, corpus):
    changes = [f"corpus={corpus}", "steps=8", "layers=1", "heads=2", "dim=32", "length=32", "rows=8", "vocab=200"]
    recipe = made("bert-mini", [*changes, "evaluate=4", "task.evaluated=1"])
    training = Training.ready(recipe, Run.create(tmp_path / "run", "bert-mini", recipe), print)
    lines = [moment.line for moment in training.steps()]
    assert lines[-1]["val_loss"] < lines[3]["val_loss"] and 0 <= lines[-1]["val_accuracy"] <= 1
    assert (tmp_path / "run" / "model.safetensors").exists()
    sample = (tmp_path / "run" / "samples" / "after.txt").read_text(encoding="utf-8")
    assert "[MASK]" in sample and "right" in sample


def test_a_tokenizer_without_a_mask_is_named(tmp_path, corpus):
    recipe = made("bert-mini", [f"corpus={corpus}", "task.corpus.vocabulary=Characters"])
    with pytest.raises(BadInput, match=r"no \[MASK\]"):
        Training.ready(recipe, Run.create(tmp_path / "run", "bert-mini", recipe), print)
