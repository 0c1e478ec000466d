from __future__ import annotations

import inspect
from dataclasses import fields, replace

import pytest

from cutaway.base.errors import BadInput
from cutaway.ops.choice import ATTEND
from cutaway.ops.forms import ACTIVATIONS, FAST, NAMED, READABLE, Forms, attending, named


@pytest.mark.parametrize("name", [field.name for field in fields(Forms) if field.name != "absorb"])  # a rule for both
def test_both_forms_of_a_function_have_one_signature_and_are_two(name):
    fast, readable = getattr(FAST, name), getattr(READABLE, name)
    assert fast is not readable
    assert list(inspect.signature(fast).parameters.values()) == list(inspect.signature(readable).parameters.values())


@pytest.mark.parametrize("name", ATTEND)
def test_every_attention_has_the_signature_of_the_readable_one(name):
    ours, readable = (inspect.signature(form).parameters.values() for form in (ATTEND[name].form, READABLE.attend))
    assert list(ours) == list(readable)
    if ATTEND[name].lacks() is None:
        assert named(attend=name) == replace(FAST, attend=ATTEND[name].form)


def test_forms_by_name():
    assert named(attend="readable") == replace(FAST, attend=READABLE.attend)
    assert named() == FAST


@pytest.mark.parametrize(("wrong", "hint"), [({"atend": "fast"}, "attend"), ({"attend": "readible"}, "readable")])
def test_an_unknown_name_is_refused_with_the_nearest(wrong, hint):
    with pytest.raises(BadInput, match=hint):
        named(**wrong)


def test_a_function_that_is_like_none_is_told_with_all_that_there_are():
    with pytest.raises(BadInput, match=r"xyzzy: no such function \(known: .*attend.*\)$"):
        named(xyzzy="fast")


def test_activations_in_int8_ask_for_kernels_that_round_whatever_the_environment_says(monkeypatch):
    for value in ("", "off", "on"):
        monkeypatch.setenv("CUTAWAY_KERNELS", value)
        assert attending(None, "int8") == NAMED["kernels-int8"]
        assert {attending(None, "float"), attending(None, None)} == {attending()}
    assert attending("tiled", "int8") == replace(
        attending("tiled"), multiply=NAMED["kernels-int8"].multiply, narrow=NAMED["kernels-int8"].narrow
    )


def test_activations_of_an_unknown_name_are_refused():
    with pytest.raises(BadInput, match=r'activations: no activations "int9"; did you mean "int8"\?$'):
        attending(None, "int9")
    assert ACTIVATIONS == ("float", "int8")
