"""Answers held to calls: whatever a model says at random is a call of a tool that was offered."""

from __future__ import annotations

import json

import jsonschema_rs
import pytest
from tests.infer.vocabularies import closing, tokenizer

from cutaway.base.errors import BadInput
from cutaway.infer.call_reader import reader
from cutaway.infer.tool_calls import held, marks
from cutaway.text.tools import Tool

CITY = {"$ref": "#/$defs/place"}
TOOLS = (
    Tool(
        name="get_weather",
        parameters={
            "$id": "https://example.org/weather",
            "$defs": {"place": {"enum": ["北京", "a"]}},
            "properties": {"city": CITY, "near": {"type": "array", "items": CITY, "maxItems": 2}},
            "required": ["city"],
            "additionalProperties": False,
        },
    ),
    Tool(
        name="tree",
        parameters={
            "type": "object",
            "properties": {"left": {"$ref": "#"}, "size": {"type": "integer", "minimum": 0, "maximum": 9}},
            "required": ["size"],
            "additionalProperties": False,
        },
    ),
    Tool(name="now"),
)
STYLES = ("hermes", "llama", "mistral", "named")


def said(made, constraint, seed: int, style: str) -> tuple[list[tuple[str, str]], str, str]:
    """The calls of a random answer, its text, and why it ended."""
    import random

    import torch

    from cutaway.infer.decoding import Decoding
    from cutaway.infer.sampler import choose

    matcher, draw, noise = constraint.begin(made), random.Random(seed), torch.Generator().manual_seed(seed)
    text, read = made.detokenizer(), reader(style, [tool.name for tool in TOOLS], marks(made), sure=True)
    deltas, whole, reason = [], "", "length"
    for _ in range(300):
        logits_V = torch.randn(made.vocab, generator=noise) + closing(made)
        token = choose(matcher.mask(logits_V), Decoding(temperature=1.0), draw)
        matcher.take(token)
        new = "" if token in made.eos_ids else text.push(token)
        whole += new
        deltas += read.push(new, token)
        if token in made.eos_ids or matcher.done:
            reason = "stop"
            break
    calls: list[list[str]] = []
    for delta in [*deltas, *read.push(text.flush()), *read.end()]:
        assert not delta.text
        if delta.name is not None:
            calls.append([delta.name, ""])
        calls[delta.index][1] += delta.arguments
    return [(name, arguments) for name, arguments in calls], whole, reason


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("choice", ["required", "tree"])
@pytest.mark.parametrize("kind", ["byte-level", "spm"])
def test_a_held_answer_is_calls(style, choice, kind):
    made, ended = tokenizer(kind), 0
    constraint = held(made, TOOLS, style, choice)
    for seed in range(6):
        calls, _, reason = said(made, constraint, seed, style)
        if reason == "length":
            continue
        ended += 1
        assert calls
        for name, arguments in calls:
            tool = next(tool for tool in TOOLS if tool.name == name)
            assert choice in ("required", name)
            assert jsonschema_rs.is_valid(dict(tool.parameters), json.loads(arguments)), arguments
    assert ended >= 2


@pytest.mark.parametrize("style", STYLES)
def test_one_call_and_no_more(style):
    made = tokenizer("byte-level")
    constraint = held(made, TOOLS[2:], style, "required", parallel=False)
    assert all(len(said(made, constraint, seed, style)[0]) == 1 for seed in range(6))


def test_a_mark_that_is_a_token_is_that_token():
    made = tokenizer("byte-level")
    assert marks(made) == {made.special["[TOOL_CALLS]"]: "[TOOL_CALLS]"}
    matcher = held(made, TOOLS, "mistral", "required").begin(made)
    assert matcher.allowed().nonzero()[0].tolist() == [made.special["[TOOL_CALLS]"]]


def spelled(style: str, call: dict) -> str:
    """A call as a model of that style writes it."""
    if style == "named":
        return f"[TOOL_CALLS]{call['name']}[ARGS]" + json.dumps(call["arguments"])
    if style == "llama":
        call = {("parameters" if key == "arguments" else key): value for key, value in call.items()}
    text = json.dumps(call)
    return {"hermes": f"<tool_call>{text}</tool_call>", "llama": text, "mistral": f"[TOOL_CALLS][{text}]"}[style]


def taken(made, constraint, text: str) -> tuple[bool, bool]:
    """Whether an answer may be `text`: whether all of it may come, and whether it is then whole."""
    matcher = constraint.begin(made)
    ids = made.encode(text, special=False)
    all_of_it = matcher.fits(ids) == len(ids)
    for id in ids if all_of_it else []:
        matcher.take(id)
    return all_of_it, matcher.accepts


@pytest.mark.parametrize("style", STYLES)
def test_nothing_stands_beside_the_name_and_the_arguments_of_a_call(style):
    made = tokenizer("byte-level")
    constraint = held(made, TOOLS, style, "required")
    call = {"name": "get_weather", "arguments": {"city": "a"}}
    assert taken(made, constraint, spelled(style, call)) == (True, True)
    if style != "named":  # there a call has no keys
        assert not taken(made, constraint, spelled(style, {**call, "id": 1}))[0]
        assert not taken(made, constraint, spelled(style, {"name": "get_weather"}))[0]
    assert not taken(made, constraint, spelled(style, {**call, "arguments": {"city": "a", "more": 1}}))[0]


@pytest.mark.parametrize("style", STYLES)
def test_beside_a_schema_an_answer_is_calls_or_of_that_schema(style):
    made = tokenizer("byte-level")
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}, "required": ["a"]}
    schema |= {"additionalProperties": False, "$defs": {"b": {"enum": [1, 2]}}}
    constraint = held(made, TOOLS, style, "auto", answer=schema)
    call = {"name": "tree", "arguments": {"size": 3}}
    assert taken(made, constraint, spelled(style, call)) == (True, True)
    assert taken(made, constraint, '{"a": 2}') == (True, True)
    for wrong in ('{"a": 3}', '{"a": 2, "b": 1}', "Well", spelled(style, {**call, "name": "rm"})):
        assert not all(taken(made, constraint, wrong)), wrong
    # A tool that is demanded leaves nothing else.
    assert not taken(made, held(made, TOOLS, style, "required", answer=schema), '{"a": 2}')[0]
    with pytest.raises(BadInput):
        held(made, TOOLS, style, "auto", answer={"type": "array", "uniqueItems": True})


def test_choices_that_ask_for_nothing():
    made = tokenizer("byte-level")
    assert [held(made, TOOLS, "hermes", choice) for choice in ("auto", "none", None)] == [None] * 3


def test_what_cannot_be_held_is_named():
    made = tokenizer("byte-level")
    with pytest.raises(BadInput, match="no tool is called 'rm'"):
        held(made, TOOLS, "hermes", "rm")
    with pytest.raises(BadInput, match="no tools"):
        held(made, (), "hermes", "required")
    odd = Tool(name="odd", parameters={"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}})
    with pytest.raises(BadInput) as caught:
        held(made, (*TOOLS, odd), "hermes", "required")
    assert caught.value.field == "tools[3].function.parameters" and "uniqueItems" in str(caught.value)
    assert held(made, (*TOOLS, odd), "hermes", "now")  # the others can be
