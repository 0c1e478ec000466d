from __future__ import annotations

import inspect
from dataclasses import fields, replace

import pytest

from cutaway.base.errors import BadInput
from cutaway.ops.choice import ATTEND
from cutaway.ops.forms import FAST, READABLE, Forms, named


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
