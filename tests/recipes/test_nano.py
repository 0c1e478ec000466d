from __future__ import annotations

import math

import pytest
import torch

from cutaway.base.errors import NotFound
from cutaway.data.readers import sources
from cutaway.models.decoder import Decoder
from cutaway.recipes.nano import small
from cutaway.recipes.table import made
from cutaway.recipes.training import Training
from cutaway.recipes.words import share_known, words
from cutaway.train.run import Run
from cutaway.weights.architectures.table import home_of
from cutaway.weights.corpora import located

# Golden: the losses of the first 20 steps on a shrunken corpus, on one thread.
GOLDEN = (
    *(5.6902, 5.6497, 5.6213, 5.5713, 5.3894, 5.2700, 5.1153, 4.9892, 4.9247, 4.7992),
    *(4.7354, 4.6052, 4.5260, 4.5435, 4.4078, 4.3676, 4.3026, 4.3698, 4.3452, 4.2340),
)


def curve(folder, corpus) -> list[float]:
    changes = [f"corpus={corpus}", "steps=20", "layers=2", "dim=32", "heads=2", "length=32", "rows=4", "vocab=300"]
    recipe = made("nano", [*changes, "evaluate=20", "task.sampling.tokens=4", "task.evaluated=1", "task.words=0"])
    training = Training.ready(recipe, Run.create(folder, "nano", recipe), print)
    return [moment.line["loss"] for moment in training.steps()]


def test_twenty_steps_are_what_they_were(tmp_path, corpus):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = curve(tmp_path / "run", corpus)
    finally:
        torch.set_num_threads(before)
    assert found[0] == pytest.approx(math.log(300), abs=0.1), "at first it knows nothing"
    # Muon's products are in bfloat16, which processors round differently; differences grow from step to step.
    assert found == pytest.approx(GOLDEN, rel=0.02)
    assert found[-1] < found[0] - 1


def test_its_model_is_one_that_other_programs_know():
    spec = small(vocab=300, layers=2, heads=2, dim=32, hidden=80, length=64)
    assert isinstance(spec, Decoder) and home_of(spec)[0].model_type == "qwen3"


@pytest.mark.proof  # the recipe as it is: about three minutes on two cores
def test_what_it_writes_are_words(tmp_path):
    try:
        located("shakespeare")
    except NotFound as error:
        pytest.skip(f"no data: {error}")
    recipe = made("nano", ["evaluate=1000"])
    run = Run.create(tmp_path / "run", "nano", recipe)
    for _ in Training.ready(recipe, run, print).steps():
        pass
    last = run.metrics.read()[-1]
    assert last["words"] == 400 and last["word_share"] >= 0.9
    known = set(words("\n".join(entry.text for entry in sources.read([located("shakespeare")]))))
    before, after = (
        (run.folder / "samples" / f"{name}.txt").read_text(encoding="utf-8") for name in ("before", "after")
    )
    # Some hundred words: a fraction of the untrained model's pieces are words by themselves.
    assert share_known(words(before), known) < 0.6 < 0.8 < share_known(words(after), known)
