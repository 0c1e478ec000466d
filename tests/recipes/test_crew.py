from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cutaway.base.errors import BadInput
from cutaway.recipes.crew import muster
from cutaway.recipes.recipe import Share
from cutaway.recipes.table import made
from cutaway.train.run import Run

SMALL = ["layers=1", "heads=2", "dim=32", "length=32", "vocab=300", "steps=12", "evaluate=6", "save=6"]
SMALL += ["task.sampling.tokens=4", "task.evaluated=1", "task.words=0", "optimiser.precision=float32"]


def test_one_process_is_a_crew_of_its_own():
    crew = muster(made("nano"))
    assert crew.first and crew.share == Share() and crew.agree(True) and not crew.agree(False)
    crew.leave()


def test_too_few_processes_are_named():
    with pytest.raises(BadInput, match="is for 8, and 1 at work"):
        muster(made("gpt2-124m"))


@pytest.mark.proof
def test_two_processes_learn_what_one_does(tmp_path, corpus):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUTAWAY_THREADS": "1"}
    train = ["cutaway", "train", "nano", f"corpus={corpus}", *SMALL]
    torchrun = ["torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "--"]
    ways = {"one": [*train, "rows=4"], "two": [*torchrun, *train, "rows=2", "processes=2"]}
    losses = {}
    for name, arguments in ways.items():
        command = [sys.executable, "-m", *arguments, "--run", str(tmp_path / name)]
        done = subprocess.run(command, env=environment, check=False, capture_output=True, encoding="utf-8", timeout=300)
        assert done.returncode == 0, done.stderr
        lines = Run.open(tmp_path / name).metrics.read()
        losses[name] = [line["loss"] for line in lines] + [line["norm"] for line in lines]
        assert [line["step"] for line in lines] == list(range(1, 13))
    # float32, sums in another order; twelve steps of Muon let the difference grow.
    assert losses["two"] == pytest.approx(losses["one"], rel=1e-3)
