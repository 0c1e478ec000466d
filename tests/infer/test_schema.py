"""Schemas from outside: what is refused before llguidance sees it, and how one moves into another."""

from __future__ import annotations

import json

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.base.errors import BadInput
from cutaway.infer.schema import compact, rooted

DEEP: dict = {}
for _ in range(100):
    DEEP = {"items": DEEP}


@pytest.mark.parametrize(
    "schema, field",
    [
        ("[", "s"),
        ("[" * 100_000, "s"),
        (None, "s"),
        ({"x-guidance": {"lenient": True}}, "s.x-guidance"),
        ({"properties": {"a": {"minProperties": 2}}}, "s.properties.a.minProperties"),
        ({"items": [{"minProperties": 3, "required": ["a", "b"]}]}, "s.items[0].minProperties"),
        ({"default": {1: 2}}, "s.default"),
        ({"const": object()}, "s.const"),
        ({"const": float("nan")}, "s"),
        ({"const": "\ud800"}, "s"),
        ({"const": "x" * 70_000}, "s"),
    ],
)
def test_what_is_refused_is_named(schema, field):
    with pytest.raises(BadInput) as caught:
        compact(schema, "s")
    assert caught.value.field == field


def test_one_that_is_too_deep():
    with pytest.raises(BadInput, match="64 deep"):
        compact(DEEP, "s")


@pytest.mark.parametrize("told, most", [({}, 64), ({"maxLength": 20}, 20), ({"maxLength": 900}, 64)])
def test_an_email_address_has_a_length(told, most):
    """A validator refuses more than 64 characters before the @, and llguidance would write them."""
    schema = {"items": {"format": "email", **told}}
    assert json.loads(compact(schema, "s")) == {"items": {"format": "email", "maxLength": most}}
    assert json.loads(compact({"const": {"format": "email"}}, "s")) == {"const": {"format": "email"}}


def test_values_are_no_schemas():
    schema = {"const": {"minProperties": 9}, "minProperties": 2, "required": ["a", "b"]}
    assert json.loads(compact(json.dumps(schema), "s")) == schema


@given(
    value=st.recursive(st.integers(0, 3) | st.text(max_size=2), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_a_moved_schema_says_the_same(value):
    """Law: at another place, and with its references moved along, a schema accepts what it accepted."""
    own = {
        "$defs": {"leaf": {"type": "integer", "minimum": 1}, "$ref": {"type": "string"}},
        "anyOf": [
            {"$ref": "#/$defs/leaf"},
            {"$ref": "#/$defs/$ref"},
            {"type": "array", "items": {"$ref": "#"}},
            {"type": "object", "additionalProperties": {"$ref": "#/$defs/leaf"}, "propertyNames": {"maxLength": 1}},
            {"const": {"$ref": "#/$defs/leaf"}},
        ],
    }
    moved = {"$defs": {"tool0": rooted(own, "#/$defs/tool0")}, "$ref": "#/$defs/tool0"}
    assert moved["$defs"]["tool0"]["anyOf"][4] == own["anyOf"][4]
    for one in (value, {"$ref": "#/$defs/leaf"}):
        assert jsonschema_rs.is_valid(moved, one) == jsonschema_rs.is_valid(own, one)
