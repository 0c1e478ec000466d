"""One grammar is begun for a request, whatever its fields ask for together."""

from __future__ import annotations

import pytest

from cutaway.infer.constrain import Constraint
from cutaway.serve.bodies import ChatBody
from cutaway.serve.faults import Fault
from cutaway.serve.structure import constrained, guided, offered

from .test_chat import FORMAT, MESSAGES, TOOL


def body(**more) -> ChatBody:
    return ChatBody.model_validate({"model": "tiny", "messages": MESSAGES, **more})


@pytest.mark.parametrize(
    ("more", "begun"),
    [
        ({}, []),
        ({"tools": [TOOL]}, []),
        ({"response_format": FORMAT}, ["json_schema"]),
        ({"guided_regex": "a+"}, ["regex"]),
        ({"tools": [TOOL], "tool_choice": "required"}, ["tools"]),
        ({"tools": [TOOL], "response_format": FORMAT}, ["tools"]),
        ({"tools": [TOOL], "response_format": FORMAT, "tool_choice": "required"}, ["tools"]),
        ({"tools": [TOOL], "response_format": FORMAT, "tool_choice": "none"}, ["json_schema"]),
    ],
)
def test_one_grammar_is_begun(tiny, monkeypatch, more, begun):
    kinds, begin = [], Constraint.begin
    monkeypatch.setattr(Constraint, "begin", lambda one, tokenizer: kinds.append(one.kind) or begin(one, tokenizer))
    made = constrained(tiny, body(**more), offered(tiny, body(**more)))
    assert kinds == begun and (made.kind if made else None) == (begun[0] if begun else None)


def test_what_no_answer_can_be_is_told_by_its_field_also_beside_tools(tiny):
    told = {"type": "json_schema", "json_schema": {"name": "odd", "schema": {"type": "nonsense"}}}
    for more in ({}, {"tools": [TOOL]}, {"tools": [TOOL], "tool_choice": "required"}):
        asked = body(response_format=told, **more)
        with pytest.raises(Fault) as refused:
            constrained(tiny, asked, offered(tiny, asked))
        assert refused.value.param == "response_format.json_schema.schema"
    with pytest.raises(Fault) as refused:
        guided(tiny, body(guided_grammar='start: "a" nowhere'))  # which only a tokenizer's own grammar tells
    assert refused.value.param == "guided_grammar"
