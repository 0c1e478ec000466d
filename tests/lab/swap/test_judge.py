"""Wrong versions are caught and named by the property that broke; right ones pass, whatever their style."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
import torch

from cutaway.lab.swap.judge import judge
from cutaway.lab.swap.table import PARTS
from cutaway.ops.forms import FAST

from .attempts import RIGHT, WRONG
from .foreign_modules import Own


def cases(table):
    return [pytest.param(*one, id=f"{one[0]}: {one[1]}") for one in table]


@pytest.mark.proof
@pytest.mark.parametrize(("part", "name", "version", "property"), cases(WRONG))
def test_a_wrong_version_is_caught_and_named(part, name, version, property):
    verdict = judge(PARTS[part], version)
    assert not verdict.passed, "not caught"
    assert verdict.broke == property, f"{verdict.broke}: {verdict.why}; also {verdict.others}; {verdict.case}"
    assert verdict.case is not None or verdict.outcome == "raises"


@pytest.mark.proof
@pytest.mark.parametrize(("part", "name", "version"), cases(RIGHT))
def test_a_right_version_passes_whatever_its_style(part, name, version):
    verdict = judge(PARTS[part], version)
    assert verdict.passed, verdict
    takes_bias = part != "ops.attend" or "bias" in inspect.signature(version).parameters
    assert ("bias" in " ".join(verdict.notes)) == (not takes_bias)


@pytest.mark.parametrize("part", [name for name in PARTS if name != "infer.choose"])
def test_our_own_forms_pass(part):
    one = PARTS[part]
    for form in (one.ours, getattr(FAST, one.place or "", one.ours)):
        verdict = judge(one, form)
        assert verdict.passed, verdict


def test_the_attention_of_the_readme_passes():
    text = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    block = next(one for one in re.findall(r"^```python run\n(.*?)^```", text, re.M | re.S) if "def my_attend" in one)
    written = next(one for one in ast.parse(block).body if getattr(one, "name", "") == "my_attend")
    room: dict = {"torch": torch}
    exec(compile(ast.Module(body=[written], type_ignores=[]), "README.md", "exec"), room)
    verdict = judge(PARTS["ops.attend"], room["my_attend"])
    assert verdict.passed, verdict


def test_what_few_models_have_is_a_remark():
    verdict = judge(PARTS["nn.grouped"], type("Own", (Own,), {"sunk": False}))
    assert verdict.passed and any("sinks" in note for note in verdict.notes)
    assert not any("sinks" in note for note in judge(PARTS["nn.grouped"], Own).notes)

    def undropped(q, k, v, see, *, scale, softcap=None, dropout=0.0):
        return FAST.attend(q, k, v, see, scale=scale, softcap=softcap)

    assert any("dropout" in note for note in judge(PARTS["ops.attend"], undropped).notes)


def test_a_wrong_one_comes_with_its_smallest_case():
    def norm(x, weight, *, eps, offset=0.0):
        return x / (x.square().mean(-1, keepdim=True).sqrt() + eps) * (weight + offset)

    verdict = judge(PARTS["ops.rms_norm"], norm)
    assert (verdict.outcome, verdict.broke) == ("fails", "eps")
    assert verdict.case is not None and verdict.case.place.startswith("output")
    assert "eps=0.5" in verdict.case.what and "x" in verdict.case.inputs


def test_a_fault_that_no_probe_knows_still_fails():
    def gate(gate, up, activation):
        right = FAST.gate(gate.clone(), up, activation)
        return right + 0.01 * (gate.shape == (3, 5))  # only this shape

    verdict = judge(PARTS["ops.gate"], gate)
    assert verdict.outcome == "fails" and verdict.case is not None and "(3, 5)" in verdict.case.what


def test_signatures_and_what_is_not_written():
    def two(q, k):
        raise NotImplementedError

    assert judge(PARTS["ops.attend"], two).outcome == "signature"
    assert "scale" in judge(PARTS["ops.attend"], lambda q, k, v, see: q).message
    assert judge(PARTS["ops.attend"], 3).outcome == "signature"

    def empty(x, cos, sin, interleaved=False):
        raise NotImplementedError

    assert judge(PARTS["ops.rotate"], empty).outcome == "not written"


def test_an_exception_is_the_verdict():
    def norm(x, weight, *, eps, offset=0.0):
        return torch.ones(3) @ torch.ones(4)

    verdict = judge(PARTS["ops.rms_norm"], norm)
    assert verdict.outcome == "raises" and "RuntimeError" in verdict.message
