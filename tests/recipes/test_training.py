from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import cutaway
from cutaway.base.errors import BadInput, CutawayError
from cutaway.ops import choice
from cutaway.ops.tiled import attend_tiled
from cutaway.recipes.table import VALUES, made
from cutaway.recipes.training import Training
from cutaway.train import checkpoints
from cutaway.train.objectives.causal import Causal
from cutaway.train.run import Run

SMALL = ["layers=1", "heads=2", "dim=32", "length=32", "rows=4", "vocab=300", "steps=24", "evaluate=8", "save=5"]
SMALL += ["task.sampling.tokens=8", "task.evaluated=2", "task.words=5"]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # with several, sums may be taken in another order from one run to the next
    yield
    torch.set_num_threads(before)


def begin(folder: Path, corpus: Path, *changes: str) -> Run:
    return Run.create(folder, "nano", made("nano", [f"corpus={corpus}", *SMALL, *changes]))


def go(folder: Path, stop=lambda: False) -> tuple[list[str], list[int]]:
    """Continues a run as far as it goes; what it said, and the steps it made."""
    run, said = Run.open(folder), []
    training = Training.ready(run.recipe(VALUES), run, said.append)
    return said, [moment.line["step"] for moment in training.steps(stop)]


def losses(folder: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in Run.open(folder).metrics.read()]


@pytest.fixture
def whole(tmp_path, corpus):
    """A run that nothing happened to."""
    begin(tmp_path / "whole", corpus)
    go(tmp_path / "whole")
    return tmp_path / "whole"


RECIPES = {
    "nano": SMALL,
    "bert-mini": ["layers=1", "heads=2", "dim=32", "length=32", "rows=4", "vocab=300", "task.evaluated=2"],
    "t5-tiny": ["layers=1", "heads=2", "dim=16", "hidden=16", "rows=4", "task.exact=2"],
}


def unasked(*given, **told):
    raise AssertionError("attention that nobody asked for")


@pytest.mark.parametrize("recipe", RECIPES)
def test_all_of_a_run_is_by_the_attention_that_it_names(recipe, tmp_path, corpus, monkeypatch):
    learning = []

    def watched(*given, **told):
        learning.append(torch.is_grad_enabled())
        return attend_tiled(*given, **told)

    tiled = replace(choice.ATTEND["tiled"], form=watched)
    monkeypatch.setattr(choice, "ATTEND", {**choice.ATTEND, "tiled": tiled})
    changes = [*RECIPES[recipe], *([] if recipe == "t5-tiny" else [f"corpus={corpus}"]), "steps=2", "evaluate=2"]
    for name, named in (("plain", []), ("named", ["attend=tiled"])):
        Run.create(tmp_path / name, recipe, made(recipe, [*changes, *named]))
        assert not learning
        go(tmp_path / name)
        # It samples and scores with what it learns by.
        monkeypatch.setattr(F, "scaled_dot_product_attention", unasked)
    assert set(learning) == {True, False}
    # Float32 sums in another order, over two steps.
    expected = pytest.approx([loss for _, loss in losses(tmp_path / "plain")], abs=1e-4)
    assert [loss for _, loss in losses(tmp_path / "named")] == expected


@pytest.mark.parametrize(("busy", "threads"), [(False, {2}), (True, {1})])
def test_a_quiet_machine_gives_a_step_all_cores_and_a_busy_one_each_piece_its_own(
    busy, threads, tmp_path, corpus, monkeypatch
):
    """Seen where the objective runs: in the thread of the loop, or in one of each piece's own."""
    seen = set()

    def watched(objective, module, batch, through=Causal.__call__):
        if torch.is_grad_enabled():
            seen.add(torch.get_num_threads())
        return through(objective, module, batch)

    monkeypatch.setattr("cutaway.recipes.crew.busy", lambda: busy)
    monkeypatch.setattr(Causal, "__call__", watched)
    torch.set_num_threads(2)
    begin(tmp_path / "run", corpus, "steps=2")
    go(tmp_path / "run")
    assert seen == threads and torch.get_num_threads() == 2


def test_a_finished_run_is_a_model(whole):
    assert [step for step, _ in losses(whole)] == list(range(1, 25))
    lines = Run.open(whole).metrics.read()
    assert [line["step"] for line in lines if "val_loss" in line] == [8, 16, 24] and lines[-1]["loss"] < lines[0][
        "loss"
    ]
    names = {path.name for path in (whole / "samples").iterdir()}
    assert names == {"before.txt", "after.txt", "step-00000008.txt", "step-00000016.txt", "step-00000024.txt"}
    language = cutaway.load(whole)
    assert language.generate("The king", max_tokens=3).tokens
    assert language.generate([{"role": "user", "content": "Who?"}], max_tokens=2).tokens, "it can be talked to"
    assert 0.0 <= lines[-1]["word_share"] <= 1.0 and lines[-1]["words"] <= 5
    assert all("word_share" not in line for line in lines[:-1]), "it is worked out once, at the end"
    assert go(whole) == ([], []), "nothing is left to do"


@pytest.mark.proof  # importing transformers takes as long as all others together
def test_transformers_opens_it_with_the_same_scores(whole):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(whole).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(whole)
    ours = cutaway.load(whole)
    text = "The queen went north. 雪落在山上"
    ids = tokenizer(text)["input_ids"]
    assert ids == ours.encode(text)
    with torch.no_grad():
        expected, found = theirs(torch.tensor([ids])).logits, ours(torch.tensor([ids]))
    # float32, one layer: another order of sums.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "cutaway", "train", *map(str, arguments)]


def quiet() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUTAWAY_THREADS": "1"}


def killed(arguments: list[str], folder: Path, step: int, delay: float = 0.0) -> None:
    """Starts a process and kills it once it has written the figures of `step`."""
    with subprocess.Popen(arguments, env=quiet(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        figures = folder / "metrics.jsonl"
        while process.poll() is None and (not figures.exists() or figures.read_bytes().count(b"\n") < step):
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)


def test_a_killed_run_goes_on_bit_for_bit(whole, tmp_path, corpus):
    folder = tmp_path / "killed"
    killed(command("nano", f"corpus={corpus}", *SMALL, "--run", folder), folder, step=12)
    assert len(losses(folder)) < 24, "it was killed before its end"
    go(folder)
    assert losses(folder) == losses(whole)


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again_at_any_moment(whole, tmp_path, corpus, seed):
    folder, draw = tmp_path / "killed", random.Random(seed)
    arguments = command("nano", f"corpus={corpus}", *SMALL, "--run", folder)
    for _ in range(6):
        seen = len(losses(folder)) if (folder / "run.json").exists() else 0
        killed(arguments, folder, step=min(24, seen // 5 * 5 + draw.randint(0, 7)), delay=draw.random() * 0.05)
        if (folder / "run.json").exists():
            arguments = command("--resume", folder)
    done = subprocess.run(command("--resume", folder), env=quiet(), check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode("utf-8")
    assert losses(folder) == losses(whole)
    model = (folder / "model.safetensors").read_bytes()
    assert model == (whole / "model.safetensors").read_bytes()


def test_a_stopped_run_is_saved_and_goes_on(whole, tmp_path, corpus):
    begin(tmp_path / "stopped", corpus)
    asked = iter([False] * 6 + [True])
    assert go(tmp_path / "stopped", lambda: next(asked))[1] == [1, 2, 3, 4, 5, 6, 7]
    assert cutaway.load(tmp_path / "stopped").generate("The", max_tokens=1).tokens, "what there is can be opened"
    assert go(tmp_path / "stopped")[1][0] == 8
    assert losses(tmp_path / "stopped") == losses(whole)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(whole, tmp_path, corpus):
    begin(tmp_path / "run", corpus)
    asked = iter([False] * 11 + [True])
    go(tmp_path / "run", lambda: next(asked))
    path = tmp_path / "run" / "checkpoints" / "step-00000012" / "optimiser.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    said, made_again = go(tmp_path / "run")
    assert any("step 12 is passed over" in line and "optimiser.safetensors" in line for line in said)
    assert made_again[0] == 11 and losses(tmp_path / "run") == losses(whole)


def test_other_data_are_refused(whole, corpus):
    corpus.write_text(corpus.read_text(encoding="utf-8") + "One line more.\n", encoding="utf-8")
    with pytest.raises(BadInput, match="corpus: is not what the run was begun with"):
        go(whole)


def test_another_recipe_is_refused(whole):
    card = json.loads((whole / "run.json").read_text(encoding="utf-8"))
    card["recipe"]["optimiser"]["rate"] = 0.5
    (whole / "run.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(BadInput, match=r"recipe\.optimiser\.rate: is not what the run was begun with"):
        go(whole)


@pytest.mark.parametrize(("content", "told"), [("", "empty"), (" \n \n", "empty"), ("short", "short|few")])
def test_an_empty_or_tiny_corpus_is_named(tmp_path, content, told):
    (tmp_path / "empty.txt").write_text(content, encoding="utf-8")
    begin(tmp_path / "run", tmp_path / "empty.txt")
    with pytest.raises(BadInput, match=told):
        go(tmp_path / "run")


def test_a_full_disk_ends_the_run_with_its_last_checkpoint(tmp_path, corpus, monkeypatch):
    begin(tmp_path / "run", corpus)
    real = checkpoints.save_file

    def full(tensors, path):
        if "step-00000010" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(CutawayError, match="No space left on device; the checkpoint of step 5 is whole"):
        go(tmp_path / "run")
    monkeypatch.undo()
    assert go(tmp_path / "run")[1][0] == 6


def test_fewer_processes_than_it_needs_are_named(tmp_path, corpus):
    begin(tmp_path / "run", corpus, "processes=8")
    with pytest.raises(BadInput, match="processes: is for 8, and 1 at work"):
        go(tmp_path / "run")


def test_it_ends_where_the_loss_is_good_enough(tmp_path, corpus):
    begin(tmp_path / "run", corpus, "until=100")
    assert go(tmp_path / "run")[1][-1] == 8
    assert go(tmp_path / "run")[1] == [], "and stays ended"


def test_a_poisoned_batch_is_told_and_passed(tmp_path, corpus, monkeypatch):
    begin(tmp_path / "run", corpus)
    run = Run.open(tmp_path / "run")
    training = Training.ready(run.recipe(VALUES), run, print)
    objective, seen = training.objective.objective, []

    def poisoned(module, batch):
        loss = objective(module, batch)
        seen.append(1)
        return loss if len(seen) != 3 else type(loss)(total=loss.total * float("nan"), count=loss.count)

    training.objective.objective = poisoned
    lines = [moment.line for moment in training.steps()]
    assert "loss not finite" in lines[2]["guard"][0] and lines[-1]["loss"] < lines[0]["loss"]
    assert run.metrics.read()[2]["loss"] is None
