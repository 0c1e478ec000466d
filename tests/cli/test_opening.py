from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace

import pytest

import cutaway.infer.load as loading
from cutaway.base.errors import BadInput
from cutaway.cli import opening
from cutaway.cli.opening import open_language, read_text
from cutaway.ops import choice as choices
from cutaway.ops.choice import ATTEND
from cutaway.ops.forms import NAMED, attending


def test_a_short_name_is_fetched_before_it_is_opened(monkeypatch, tmp_path):
    done = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(opening, "bring", lambda name: done.append(("fetched", name)))

    def load(name, **options):
        done.append((name, options))
        return SimpleNamespace(speaks=True)

    monkeypatch.setattr(loading, "load", load)
    context = SimpleNamespace(meta={})
    open_language(context, "smollm2-135m", device="cpu")  # type: ignore[arg-type]
    open_language(context, "owner/name")  # type: ignore[arg-type]
    (tmp_path / "minilm").mkdir()
    open_language(context, "minilm")  # type: ignore[arg-type]
    nothing = {"dtype": None, "device": None, "forms": attending(), "weights": None, "cache": None}
    assert done == [
        ("fetched", "smollm2-135m"),
        ("smollm2-135m", {**nothing, "device": "cpu"}),
        ("owner/name", nothing),
        ("minilm", nothing),
    ]


def test_a_precision_that_is_none_is_refused_before_anything_is_fetched(monkeypatch):
    monkeypatch.setattr(opening, "bring", lambda name: pytest.fail("fetched for nothing"))
    with pytest.raises(BadInput, match=r"weights: .*int3"):
        open_language(SimpleNamespace(meta={}), "smollm2-135m", weights="int3")  # type: ignore[arg-type]


def test_an_attention_that_cannot_run_here_is_refused_before_anything_is_fetched(monkeypatch):
    monkeypatch.setattr(opening, "bring", lambda name: pytest.fail("fetched for nothing"))
    lacking = replace(ATTEND["triton"], lacks=lambda: BadInput("no GPU is here", field="attend"))
    monkeypatch.setattr(choices, "ATTEND", {**ATTEND, "triton": lacking})
    with pytest.raises(BadInput, match="attend: no GPU is here"):
        open_language(SimpleNamespace(meta={}), "smollm2-135m", attend="triton")  # type: ignore[arg-type]


def test_the_attention_asked_for_is_the_one_it_runs_on(monkeypatch):
    monkeypatch.setattr(loading, "load", lambda name, *, forms, **options: SimpleNamespace(speaks=True, forms=forms))
    for name, choice in ATTEND.items():
        if choice.lacks() is not None:
            continue
        language = open_language(SimpleNamespace(meta={}), "owner/name", attend=name)  # type: ignore[arg-type]
        others = {"activate": choice.activate, "linear": choice.linear}
        changed = {name: form for name, form in others.items() if form is not None}
        assert language.forms == replace(attending(), attend=choice.form, attend_blocks=choice.blocks, **changed)


def test_the_activations_asked_for_are_those_that_it_multiplies_by(monkeypatch):
    monkeypatch.setattr(loading, "load", lambda name, *, forms, **options: SimpleNamespace(speaks=True, forms=forms))
    language = open_language(SimpleNamespace(meta={}), "owner/name", activations="int8")  # type: ignore[arg-type]
    assert language.forms == NAMED["kernels-int8"]


def test_an_encoder_will_do_where_nothing_is_to_be_written(monkeypatch, tmp_path):
    brought = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(opening, "bring", brought.append)
    monkeypatch.setattr(loading, "load", lambda name, **options: SimpleNamespace(speaks=False))
    context = SimpleNamespace(meta={})
    for name in ("minilm", "owner/name"):
        with pytest.raises(BadInput, match=f"{name}: is an encoder.*turns texts to vectors"):
            open_language(context, name)  # type: ignore[arg-type]
        assert brought == [], "nothing is fetched for nothing"
    assert not open_language(context, "minilm", mute=True).speaks  # type: ignore[arg-type]
    assert brought == ["minilm"]


def test_text_is_taken_as_given_and_a_dash_reads_all_of_stdin(monkeypatch):
    assert read_text("plain - text\n") == "plain - text\n"
    for given, text in (("a\nb\n", "a\nb"), ("a\n\n", "a\n"), ("a\r\n", "a"), ("", ""), ("中", "中")):
        monkeypatch.setattr("sys.stdin", io.StringIO(given, newline=""))
        assert read_text("-") == text


def test_bytes_that_are_no_text_are_one_line(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"ok \xff"), encoding="utf-8"))
    with pytest.raises(BadInput, match=r"standard input: not UTF-8 text \(byte 3\)"):
        read_text("-")
