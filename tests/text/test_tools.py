"""Tools told to a model: in the places its template has for them, or in words."""

from __future__ import annotations

import json

import pytest
from tests.infer.vocabularies import tokenizer

from cutaway.base.errors import BadInput
from cutaway.text.tools import Tool, knows_tools, render, spelled_out, style_of, tools_of, valued

PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
PLAIN += "{% if add_generation_prompt %}<assistant>{% endif %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + PLAIN
HERMES = "{% if tools %}{% for t in tools %}{{ t | tojson }}\n{% endfor %}<tool_call>{% endif %}" + PLAIN.replace(
    "{{ m.content }}", "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}{% endfor %}"
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "天气",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "北京"}'}}
TALK = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
    {"role": "tool", "tool_call_id": "1", "content": "sunny"},
    {"role": "tool", "tool_call_id": "2", "content": "rain"},
]


def test_a_template_with_a_place_for_tools_gets_them_there():
    made = tokenizer("byte-level", template=HERMES)
    text = render(made, TALK[:2], tools_of([WEATHER]))
    assert json.dumps(WEATHER, ensure_ascii=False) in text and "You can call" not in text
    assert '{"city": "北京"}' in text  # a value, and not a text in quotes
    assert knows_tools(made) and "get_weather" not in render(made, TALK[:1], ())


def test_a_template_without_gets_them_in_words():
    made = tokenizer("byte-level", template=PLAIN)
    text = render(made, TALK, tools_of([WEATHER]))
    assert not knows_tools(made)
    assert text.startswith("<system>You can call functions") and json.dumps(WEATHER, ensure_ascii=False) in text
    call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "北京"}}\n</tool_call>'
    assert f"<assistant>{call}\n{call}\n" in text
    told = "<user><tool_response>\nsunny\n</tool_response>\n<tool_response>\nrain\n</tool_response>\n<assistant>"
    assert text.endswith(told)
    assert render(made, TALK[:1], ()) == "<user>Weather?\n<assistant>"


def test_one_system_message_stays_one():
    said = spelled_out([{"role": "system", "content": "Be short."}, *TALK[:1]], tools_of([WEATHER]))
    assert [one["role"] for one in said] == ["system", "user"]
    assert said[0]["content"].startswith("Be short.\n\nYou can call")


def test_a_template_that_takes_no_system_message():
    made = tokenizer("byte-level", template=NO_SYSTEM)
    text = render(made, TALK[:1], tools_of([WEATHER]))
    assert text.startswith("<user>You can call") and text.endswith("\n\nWeather?\n<assistant>")
    with pytest.raises(BadInput, match="no system here"):
        render(made, [{"role": "system", "content": "x"}, *TALK[:1]], ())


def test_without_a_template_there_is_no_conversation():
    with pytest.raises(BadInput, match="base model"):
        render(tokenizer("byte-level"), TALK[:1], tools_of([WEATHER]))


@pytest.mark.parametrize(
    "template, style",
    [
        (PLAIN, "hermes"),
        (HERMES, "hermes"),
        ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]", "mistral"),
        ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]{{ name }}[ARGS]", "named"),
        ('{% if tools is not none %}{"name": NAME, "parameters": ...}<|python_tag|>{% endif %}', "llama"),
        ("{% if tools %}a spelling that nobody knows{% endif %}", "hermes"),
    ],
)
def test_how_a_template_spells_a_call(template, style):
    assert style_of(tokenizer("byte-level", template=template)) == style


def test_tools_as_openai_and_as_transformers_have_them():
    assert tools_of([WEATHER]) == tools_of([WEATHER["function"]])
    assert tools_of([{"name": "now"}]) == (Tool(name="now"),)
    assert Tool(name="now").plain()["function"]["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    "tools, field",
    [
        ({}, "tools"),
        ([], "tools"),
        ([1], "tools[0]"),
        ([WEATHER, {"type": "retrieval"}], "tools[1].type"),
        ([{"type": "function"}], "tools[0].function"),
        ([{"name": "a b"}], "tools[0].name"),
        ([{"name": "a", "description": 3}], "tools[0].description"),
        (
            [{"type": "function", "function": {"name": "a", "parameters": {"type": "string"}}}],
            "tools[0].function.parameters",
        ),
        ([WEATHER, WEATHER], "tools[1].function.name"),
        ([{"name": f"t{n}"} for n in range(200)], "tools"),
    ],
)
def test_what_is_no_tool_is_named(tools, field):
    with pytest.raises(BadInput) as caught:
        tools_of(tools)
    assert caught.value.field == field


def test_arguments_that_were_cut_stay_texts():
    cut = {"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": '{"city'}}]}
    assert valued(cut) == cut
    assert valued({"role": "assistant", "tool_calls": [{"name": "a", "arguments": "{}"}]})["tool_calls"] == [
        {"name": "a", "arguments": {}}
    ]
