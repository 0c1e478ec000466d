"""`cutaway swap` judges in a process of its own; whatever the file does, there is a verdict."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cutaway.base.errors import BadInput
from cutaway.cli import swap
from cutaway.cli.main import main
from cutaway.lab.swap.sandbox import Ended, Sandbox
from cutaway.lab.swap.verdict import Case, Verdict
from cutaway.ops import choice

from .folders import tiny

HEAD = "import os, subprocess, sys, time, torch\ndef rms_norm(x, weight, *, eps, offset=0.0):\n    "
RIGHT = "return (x.float() / (x.float().square().mean(-1, keepdim=True) + eps).sqrt() * (weight + offset)).to(x.dtype)"
ENDINGS = {
    "loop": ("while True: pass", "time"),
    "leaves": ("os._exit(0)", "exits"),
    "system exit": ("sys.exit(3)", "exits"),
    "crash": ("os.kill(os.getpid(), 11)", "crashes"),
    "memory": ("return torch.ones(2**40)", "memory"),
    "reads": ("return input()", "raises"),
    "writes": ("open(__file__, 'w')", "raises"),
    "kept": (RIGHT, "passes"),
    "no thing": ("return None", "fails"),
}


def judged(tmp_path, body: str, *more: str, capsys) -> tuple[int, dict]:
    file = tmp_path / "mine.py"
    file.write_text(HEAD + body + "\n", encoding="utf-8")
    capsys.readouterr()
    code = main(["swap", f"ops.rms_norm={file}", "--check", "--json", *more])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.skipif(os.name == "nt", reason="signals and limits are Unix's")
@pytest.mark.proof
@pytest.mark.parametrize("name", ENDINGS)
def test_every_end_is_a_verdict(name, tmp_path, capsys):
    body, outcome = ENDINGS[name]
    code, verdict = judged(tmp_path, body, "--seconds", "5", capsys=capsys)
    assert verdict["outcome"] == outcome, verdict
    assert code == (0 if outcome == "passes" else 1) and verdict["passed"] == (code == 0)
    assert (tmp_path / "mine.py").stat().st_size > 0


@pytest.mark.skipif(os.name == "nt", reason="process groups are Unix's")
@pytest.mark.proof
def test_children_do_not_outlive_it(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import subprocess, time\nprint('noise')\nrunning = subprocess.Popen(['sleep', '300'])\n"
        f"open('here', 'w').write(str(running.pid))\n{HEAD}time.sleep(300)\n",
        encoding="utf-8",
    )
    order = {"part": "ops.rms_norm", "path": str(file), "function": "rms_norm", "threads": 1, "seconds": 2.0}
    with Sandbox({**order, "timed": False, "do": "judge"}) as sandbox:
        with pytest.raises(Ended) as ended:
            list(sandbox.answers())
        child = int((Path(sandbox.folder.name) / "here").read_text(encoding="utf-8"))
    assert ended.value.verdict.outcome == "time" and "noise" in sandbox.printed
    for _ in range(50):
        if not alive(child):
            break
        time.sleep(0.1)
    assert not alive(child)


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


def test_list_and_stub(capsys):
    assert main(["swap", "--list"]) == 0
    out = capsys.readouterr().out
    assert "ops.attend" in out and "infer.choose" in out and "train.adam" in out
    assert main(["swap", "--stub", "ops.rotate"]) == 0
    assert "raise NotImplementedError" in capsys.readouterr().out
    assert main(["swap", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["part"] == "ops.attend"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give PART"),
        (["--stub", "ops.atend"], 'did you mean "ops.attend"'),
        (["ops.attend=./nowhere.py:attend"], "no such file"),
        (["ops.atend=./nowhere.py:attend"], 'did you mean "ops.attend"'),
        (["ops.attend"], "write PART=FILE"),
    ],
)
def test_what_is_typed_wrong(arguments, said, capsys):
    assert main(["swap", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def started(monkeypatch):
    """Orders that processes would have been given."""
    orders = []
    monkeypatch.setattr(
        swap, "judged", lambda order, *more, **told: orders.append(order) or Verdict(part="p", outcome="passes")
    )
    monkeypatch.setattr(swap, "talk", lambda order, *more: orders.append(order))
    return orders


def test_the_model_runs_on_the_attention_that_is_named(started, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(HEAD + RIGHT, encoding="utf-8")
    for more, told in ([], None), (["--attend", "tiled"], "tiled"):
        assert main(["swap", f"ops.rms_norm={file}", "--model", str(tmp_path), "-p", "hi", *more]) == 0
        assert (started[-1]["do"], started[-1]["attend"]) == ("talk", told)


def test_where_attention_is_swapped_none_is_to_be_named(started, tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(HEAD + RIGHT, encoding="utf-8")
    assert main(["swap", f"ops.attend={file}:rms_norm", "--attend", "naive"]) == 2
    assert capsys.readouterr().err == (
        "error: --attend: ops.attend is what attends: your own takes the place of every form\n"
    )
    assert not started


def test_an_attention_that_cannot_run_here_is_said_first(started, tmp_path, capsys, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text(HEAD + RIGHT, encoding="utf-8")
    lacking = replace(choice.ATTEND["triton"], lacks=lambda: BadInput("no GPU is here", field="attend"))
    monkeypatch.setattr(choice, "ATTEND", {**choice.ATTEND, "triton": lacking})
    assert main(["swap", f"ops.rms_norm={file}", "--attend", "triton"]) == 2
    assert "attend: no GPU is here" in capsys.readouterr().err and not started


@pytest.mark.skipif(os.name == "nt", reason="limits are Unix's")
@pytest.mark.proof
def test_a_part_answers_in_a_model_that_runs_on_another_attention(tmp_path, capsys):
    """The process that was told `naive` says what one that was told nothing says."""
    file, model, said = tmp_path / "mine.py", str(tiny(tmp_path / "tiny")), []
    file.write_text(HEAD + RIGHT, encoding="utf-8")
    order = ["swap", f"ops.rms_norm={file}", "--model", model, "-p", "Who?", "-n", "5"]
    for more in ([], ["--attend", "naive"]):
        assert main([*order, *more]) == 0
        said.append(capsys.readouterr().out.splitlines()[1:])
    assert said[0] == said[1]


def test_a_verdict_goes_through_json():
    verdict = Verdict(
        part="p", outcome="fails", broke="scale", why="w", case=Case(what="c", inputs={"q": "[1]"}), notes=("n",)
    )
    assert Verdict.of(json.loads(json.dumps(verdict.plain()))) == verdict
    assert Verdict.of(Verdict(part="p", outcome="time").plain()).case is None
