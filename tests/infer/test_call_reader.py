"""Calls found in answers, however the text is cut into pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.infer.call_reader import CallReader, HeldReader, reader

STRANGE = '<tool_call>{"name": "rm", "arguments": {}}</tool_call>'
NAMES = ("get_weather", "now")
ONE = '{"name": "get_weather", "arguments": {"city": "北京", "note": "a } \\" { b"}}'
TWO = '{"name": "now", "arguments": {}}'
LAST = ("now", {})
FIRST = ("get_weather", {"city": "北京", "note": 'a } " { b'})

# style, answer, text, calls
ANSWERS = [
    ("hermes", "Just words, 你好 < and > and {braces}.", "Just words, 你好 < and > and {braces}.", []),
    ("hermes", f"<tool_call>\n{ONE}\n</tool_call>", "", [FIRST]),
    (
        "hermes",
        f"I look.\n<tool_call>{ONE}</tool_call>\n<tool_call>\n{TWO}\n</tool_call>",
        "I look.",
        [FIRST, ("now", {})],
    ),
    ("hermes", f"<tool_call>[{ONE}, {TWO}]</tool_call>", "", [FIRST, LAST]),
    ("hermes", f"<tool_call>{ONE}", "", [FIRST]),  # ended without its mark
    ("hermes", f"<tool_call>{ONE}</tool_call> Done.", " Done.", [FIRST]),
    ("hermes", f" \n{ONE}", "", [FIRST]),
    ("hermes", '{"answer": 42, "why": "because of everything"}', '{"answer": 42, "why": "because of everything"}', []),
    ("hermes", '{"name": "Ada"}', '{"name": "Ada"}', []),
    ("hermes", "<tool_call>{'name': now}</tool_call> so", "<tool_call>{'name': now}</tool_call> so", []),
    (
        "hermes",
        '<tool_call>{"name": "rm", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "rm", "arguments": {}}</tool_call>',
        [],
    ),
    ("hermes", "<tool_call>{", "<tool_call>{", []),
    ("hermes", "a <tool", "a <tool", []),
    ("hermes", '<tool_call>{"name": "now", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("now", {"a": 1})]),
    ("llama", ONE.replace("arguments", "parameters"), "", [FIRST]),
    ("llama", f"<|python_tag|>{ONE}; {TWO}", "", [FIRST, LAST]),
    ("llama", '{"type": "function", "function": {"name": "now", "parameters": {}}}', "", [LAST]),
    ("llama", "Hello {x}", "Hello {x}", []),
    ("mistral", f"[TOOL_CALLS] [{ONE}, {TWO}]", "", [FIRST, LAST]),
    ("mistral", "[TOOL_CALLS] none", "[TOOL_CALLS] none", []),
    (
        "named",
        '[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]get_weather[ARGS]{"city": "x"}',
        "",
        [("now", {}), ("get_weather", {"city": "x"})],
    ),
]


def read(made: CallReader | HeldReader, pieces: list[str]) -> tuple[str, list[tuple[str, dict]]]:
    deltas = [delta for piece in pieces for delta in made.push(piece)] + made.end()
    names, arguments = {}, {}
    for delta in deltas:
        if delta.index is not None:
            if delta.name is not None:
                assert delta.index == len(names) and delta.id
                names[delta.index] = delta.name
            arguments[delta.index] = arguments.get(delta.index, "") + delta.arguments
    calls = [(name, json.loads(arguments[index])) for index, name in names.items()]
    return "".join(delta.text for delta in deltas), calls


@pytest.mark.parametrize("style, answer, text, calls", ANSWERS)
@given(data=st.data())
def test_an_answer_in_any_pieces(style, answer, text, calls, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(answer)), max_size=12)))
    pieces = [answer[start:end] for start, end in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
    assert read(CallReader(style, NAMES), pieces) == (text, calls)


@pytest.mark.parametrize("style, answer, text, calls", [one for one in ANSWERS if one[3] and not one[2]])
def test_a_held_answer_tells_its_arguments_as_they_come(style, answer, text, calls):
    if '\\"a\\"' in answer or '"function"' in answer:
        return  # no grammar of ours writes these
    made = reader(style, NAMES, sure=True)
    told = [made.push(letter) for letter in answer]
    assert read(HeldReader(style), list(answer)) == (text, calls)
    assert sum(bool(deltas) for deltas in told) > 2 * len(calls)
    assert isinstance(reader(style, NAMES), CallReader)


def test_marks_that_are_tokens_come_by_their_ids():
    made = CallReader("mistral", NAMES, {7: "[TOOL_CALLS]"})
    assert made.push("", 7) == [] and made.push(f"[{TWO}", 3) == []
    (call,) = made.push("]", 4)
    assert (call.name, call.arguments) == ("now", "{}") and len(call.id) == 9


def test_json_without_marks_is_text_where_an_answer_may_be_json():
    assert read(CallReader("hermes", NAMES, bare=False), list(ONE)) == (ONE, [])
    marked = f"<tool_call>{TWO}</tool_call>"
    assert read(CallReader("hermes", NAMES, bare=False), list(marked)) == ("", [LAST])
    # Its pieces come as they are written.
    made = CallReader("hermes", NAMES, bare=False)
    assert [delta.text for delta in made.push('{"name": "get')] == ['{"name": "get']


def test_text_is_not_kept_waiting():
    made = CallReader("hermes", NAMES)
    assert [delta.text for delta in made.push("Hello <")] == ["Hello"]
    assert [delta.text for delta in made.push("b> x")] == [" <b> x"]
