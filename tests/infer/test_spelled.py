"""Whatever the vocabulary: what is written within a constraint is valid, or was cut short.

Held against jsonschema-rs and Python's `re`.
"""

from __future__ import annotations

import json
import re

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.infer.vocabularies import KINDS, scribble, tokenizer

from cutaway.base.errors import BadInput
from cutaway.infer.constrain import Constraint, literal
from cutaway.infer.request import Stuck

MADE = {kind: tokenizer(kind) for kind in KINDS}
NAMES = ("a", "b", "name", "城市", "x y", 'q"q', "back\\slash", "é")
TEXTS = st.sampled_from(
    ["", "a", "hello world", "北京", "你好，世界", "👍", 'say "hi"', "tab\there", "line\nline", "\\"]
)
PATTERNS = ("^[a-z]{2,4}$", "[0-9]+", "^(ab|a)*c?$", "^北京", "^\\d{4}-\\d{2}$")


def values() -> st.SearchStrategy:
    return st.one_of(TEXTS, st.integers(-1000, 1000), st.booleans(), st.none(), st.sampled_from([0.5, -2.25]))


def bounded(kind: str) -> st.SearchStrategy:
    pair = st.tuples(st.integers(-50, 50), st.integers(0, 90))
    return pair.map(lambda two: {"type": kind, "minimum": two[0], "maximum": two[0] + two[1]})


def leaves() -> st.SearchStrategy:
    sizes = st.tuples(st.integers(0, 4), st.integers(0, 6))
    return st.one_of(
        st.sampled_from([{"type": one} for one in ("string", "integer", "number", "boolean", "null")]),
        sizes.map(lambda two: {"type": "string", "minLength": two[0], "maxLength": two[0] + two[1]}),
        st.sampled_from(PATTERNS).map(lambda one: {"type": "string", "pattern": one}),
        st.sampled_from(["date", "uuid", "ipv4", "email"]).map(lambda one: {"type": "string", "format": one}),
        st.lists(values(), min_size=1, max_size=4).map(lambda some: {"enum": some}),
        values().map(lambda one: {"const": one}),
        bounded("integer"),
        bounded("number"),
        st.integers(1, 12).map(lambda one: {"type": "integer", "multipleOf": one, "minimum": 0, "maximum": 500}),
        st.just({"type": ["string", "null"], "title": "Nothing", "description": "or a text"}),
    )


def branches(inner: st.SearchStrategy) -> st.SearchStrategy:
    keys = st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    more = st.one_of(st.booleans(), inner)
    objects = st.builds(
        lambda keys, more, count: {
            "type": "object",
            "properties": keys,
            "required": list(keys)[:count],
            "additionalProperties": more,
        },
        keys,
        more,
        st.integers(0, 4),
    )
    arrays = st.builds(
        lambda items, least, most: {"type": "array", "items": items, "minItems": least, "maxItems": least + most},
        inner,
        st.integers(0, 2),
        st.integers(0, 3),
    )
    return st.one_of(objects, arrays, st.lists(inner, min_size=1, max_size=3).map(lambda some: {"anyOf": some}))


SCHEMAS = st.recursive(leaves(), branches, max_leaves=6)


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(
    schema=SCHEMAS,
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**31),
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
)
def test_any_schema_gives_what_it_says(schema, kind, seed, temperature):
    _holds(schema, kind, seed, temperature)


@pytest.mark.proof
@settings(max_examples=1500, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(schema=SCHEMAS, kind=st.sampled_from(KINDS), seed=st.integers(0, 2**31))
def test_more_schemas_give_what_they_say(schema, kind, seed):
    _holds(schema, kind, seed, 1.0)


def _holds(schema: dict, kind: str, seed: int, temperature: float) -> None:
    try:
        constraint = Constraint(kind="json_schema", body=schema)
        text, reason, matcher = scribble(MADE[kind], constraint, seed, temperature=temperature)
    except BadInput as error:  # refused before a token was written
        assert error.field and error.field.startswith("json_schema")
        return
    except Stuck:  # a vocabulary of few characters cannot spell every constant
        assert kind in ("characters", "metaspace")
        return
    if reason == "stop":
        validator = jsonschema_rs.validator_for(schema, validate_formats=True)
        assert validator.is_valid(json.loads(text, parse_float=_finite)), text
    else:
        assert not matcher.done


def _finite(text: str) -> float:
    """-9e5386 is a number in JSON, and too large for Python's."""
    return min(max(float(text), -1e300), 1e300)


def test_most_schemas_are_finished():
    """The law above would hold of somebody who never ends."""
    schema = {"type": "object", "properties": {"北京": {"type": "string"}, "n": {"type": "integer", "maximum": 99}}}
    schema |= {"required": ["北京", "n"], "additionalProperties": False}
    constraint = Constraint(kind="json_schema", body=schema)
    for kind in KINDS:
        said = [scribble(MADE[kind], constraint, seed) for seed in range(20)]
        whole = [json.loads(text) for text, reason, _ in said if reason == "stop"]
        assert len(whole) > 10 and all(set(one) == {"北京", "n"} for one in whole)


EXPRESSIONS = [
    "[0-9]{4}-[0-9]{2}",
    "^(北京|上海|你好)+$",
    "(ab|a)*b",
    r"\d{1,3}(\.\d{1,3}){3}",
    " a b c",
    "  x",
    " ?hello( world)?",
    "é{2,3}",
    "[^a-z]{3}",
    "👍+",
    "a/b\\.c",
    r"\w+@\w+",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_is_matched_whole(kind, expression):
    constraint = Constraint(kind="regex", body=expression)
    ended = 0
    for seed in range(6):
        try:
            text, reason, _ = scribble(MADE[kind], constraint, seed, most=60)
        except (BadInput, Stuck):
            assert kind in ("characters", "metaspace") and re.search("[上海👍]", expression)
            return
        assert (re.fullmatch(expression, text) is not None) >= (reason == "stop"), (text, reason)
        ended += reason == "stop"
    assert ended


@pytest.mark.parametrize("kind", KINDS)
def test_a_choice_is_one_of_them(kind):
    texts = ["a", "ab", "a.b", " hello", "x|y", "北京", "(", 'q"', "\\"]
    constraint = Constraint(kind="choice", body=texts)
    said = {scribble(MADE[kind], constraint, seed)[0] for seed in range(60)}
    assert said <= set(texts) and len(said) > 4


@given(text=st.text(min_size=1, max_size=8).filter(lambda one: "\x00" not in one and one.strip()))
@settings(max_examples=40)
def test_any_text_can_be_a_choice(text):
    assert scribble(MADE["byte-level"], Constraint(kind="choice", body=text), 0)[:2] == (text, "stop")
    assert literal("a.b") == r"a\.b"


def test_a_grammar_in_either_notation():
    lark = 'start: "(" start ")" | NUMBER\nNUMBER: /[0-9]{1,3}/'
    gbnf = 'root ::= "(" root ")" | number\nnumber ::= [0-9] [0-9]? [0-9]?'
    for body in (lark, gbnf):
        for seed in range(8):
            text, reason, _ = scribble(MADE["byte-level"], Constraint(kind="grammar", body=body), seed)
            inner = text.strip("()")
            assert reason == "stop" and inner.isdecimal() and text.count("(") == text.count(")")
            assert text == "(" * text.count("(") + inner + ")" * text.count(")")


def test_any_object():
    for seed in range(12):
        text, reason, _ = scribble(MADE["byte-level"], Constraint(kind="json_object"), seed)
        assert reason == "length" or isinstance(json.loads(text), dict)
