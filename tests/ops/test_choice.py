from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace

import pytest
import torch

from cutaway.base.errors import BadInput, MissingExtra
from cutaway.ops import choice
from cutaway.ops.choice import ATTEND, choose_attend, triton_lacks
from cutaway.ops.forms import FAST
from cutaway.ops.visible import Visible


def test_where_no_attention_is_asked_for_the_fast_one_runs():
    assert choose_attend().form is FAST.attend and choose_attend().name == "sdpa"
    for name in ("sdpa", "naive", "tiled"):
        assert choose_attend(name) is ATTEND[name]
    with pytest.raises(BadInput, match='did you mean "tiled"'):
        choose_attend("tilde")


@pytest.fixture
def machine(monkeypatch):
    """`machine(...)` makes this one another: with or without the package, a GPU, and what the environment says."""

    def make(*, package=True, gpu=False, interpret="", imported=None, system="linux"):
        real = importlib.util.find_spec
        spec = SimpleNamespace(name="triton") if package else None
        monkeypatch.setattr(choice, "find_spec", lambda name: spec if name == "triton" else real(name))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setenv("TRITON_INTERPRET", interpret)
        monkeypatch.setattr(sys, "platform", system)
        language = None if imported is None else SimpleNamespace(sum=type(imported, (), {})())
        monkeypatch.setitem(sys.modules, "triton.language", language)

    return make


@pytest.mark.parametrize(
    ("told", "error", "words"),
    [
        ({"package": False, "gpu": True}, MissingExtra, r'pip install "cutaway\[triton\]"'),
        ({"package": False, "system": "darwin"}, BadInput, "Linux only: take naive, tiled or sdpa"),
        ({}, BadInput, "no GPU is here.*TRITON_INTERPRET=1"),
        ({"interpret": "0"}, BadInput, "no GPU is here"),
        ({"interpret": "1", "imported": "JITFunction"}, BadInput, "set it before the program starts"),
    ],
    ids=str,
)
def test_what_triton_lacks_is_one_line_and_nothing_runs_in_its_place(machine, told, error, words):
    machine(**told)
    for ask in (lambda: choose_attend("triton"), attend_one):
        with pytest.raises(error, match=words) as caught:
            ask()
        assert "\n" not in str(caught.value)
    assert choose_attend().name == "sdpa", "the others are not touched by it"


def attend_one():
    see = Visible(queries=(1,), keys=(1,))
    return ATTEND["triton"].form(*torch.zeros(3, 1, 1, 16), see, scale=1.0)


@pytest.mark.parametrize(
    "told", [{"gpu": True}, {"interpret": "1"}, {"interpret": "True", "imported": "InterpretedFunction"}], ids=str
)
def test_it_is_taken_where_a_gpu_or_the_interpreter_is(machine, told):
    machine(**told)
    assert triton_lacks() is None and choose_attend("triton") is ATTEND["triton"]


def test_it_runs_from_here():
    error = triton_lacks()
    if error is not None:
        pytest.skip(str(error))
    device = "cpu" if choice.interpreted() else "cuda"
    v_SGK = torch.randn(3, 1, 16, device=device)
    see = Visible(queries=(3,), keys=(3,))
    y_NHK = ATTEND["triton"].form(torch.zeros_like(v_SGK), torch.zeros_like(v_SGK), v_SGK, see, scale=1.0)
    torch.testing.assert_close(y_NHK[2], v_SGK.mean(0))  # equal scores: the mean of what is seen
