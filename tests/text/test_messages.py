"""Conversations that are none: each is named where it is wrong."""

from __future__ import annotations

import enum

import pytest

from cutaway.base.errors import BadInput
from cutaway.text.messages import checked

GOOD = {"role": "user", "content": "hi"}


class Role(str, enum.Enum):  # noqa: UP042 - one whose str() is not its value
    USER = "user"


@pytest.mark.parametrize(
    ("messages", "field", "words"),
    [
        ("hello", "messages", "a list of messages, not a str"),
        (None, "messages", "not a NoneType"),
        ({"role": "user"}, "messages", "not a dict"),
        ([], "messages", "at least one message"),
        ([GOOD, "x"], "messages[1]", "a dict with role and content"),
        ([GOOD, GOOD, {"content": "x"}], "messages[2].role", "is missing; it must be a text such as 'user'"),
        ([{"role": 1, "content": "x"}], "messages[0].role", "not a int"),
        ([GOOD, GOOD, {"role": "user"}], "messages[2].content", "is missing; it must be a text, or a list of parts"),
        ([{"role": "user", "content": None}], "messages[0].content", "is missing"),
        ([{"role": "user", "content": 7}], "messages[0].content", "not a int"),
        ([{"role": "user", "content": {"text": "x"}}], "messages[0].content", "not a dict"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]", "a dict with a type"),
        ([{"role": "user", "content": [{"text": "x"}]}], "messages[0].content[0].type", "is missing"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text", "is missing"),
        ([{**GOOD, "extra": object()}], "messages[0].extra", "not a object"),
        ([{**GOOD, "extra": [1, {"a": b"x"}]}], "messages[0].extra[1].a", "not a bytes"),
        ([{**GOOD, 5: "x"}], "messages[0]", "a key must be a text"),
    ],
)
def test_what_is_wrong_is_named(messages, field, words):
    with pytest.raises(BadInput) as caught:
        checked(messages, "chat.json")
    assert caught.value.field == field
    assert words in str(caught.value)
    assert str(caught.value).startswith("chat.json: ")


def test_a_message_that_holds_itself_is_too_deep():
    message: dict = dict(GOOD)
    message["self"] = [message]
    with pytest.raises(BadInput, match="nested more than 64 deep"):
        checked([message])


def test_what_a_template_sees_is_plain_and_a_copy():
    given = {"role": Role.USER, "content": "hi", "name": None, "meta": {"n": (1, 2.5, True)}}
    (seen,) = checked((given,))
    assert seen == {"role": "user", "content": "hi", "meta": {"n": [1, 2.5, True]}}
    assert type(seen["role"]) is str
    seen["meta"]["n"].append(3)
    assert given["meta"]["n"] == (1, 2.5, True)


def test_calls_need_no_content_and_reasoning_has_its_names():
    calls = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}
    assert "content" not in checked([calls])[0]
    with pytest.raises(BadInput):
        checked([{**calls, "tool_calls": []}])
    for name in ("reasoning", "thinking", "reasoning_content"):
        seen = checked([{**GOOD, name: "because"}])[0]
        assert seen["reasoning_content"] == seen["thinking"] == "because"
