"""Checks a conversation before a template sees it, so that a mistake is named where it stands: messages[2].content.

A message is a dict with a `role` and a `content`: a text, or a list of parts such as {"type": "text", "text": "hi"};
content may be missing only beside `tool_calls`. As transformers does before its templates run, keys whose value is
None are dropped, and reasoning is copied to `reasoning_content` and `thinking` from whichever name it came under.
Read next: text/chat.py
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cutaway.base.errors import BadInput

_REASONING = ("reasoning_content", "thinking", "reasoning")
_DEPTH = 64


def checked(messages: Any, source: str | Path | None = None) -> list[dict[str, Any]]:
    """A copy of `messages` in plain lists and dicts. Raises BadInput whose field is the first thing wrong."""
    if not isinstance(messages, (list, tuple)):
        raise BadInput(f"a conversation is a list of messages, not {_kind(messages)}", source=source, field="messages")
    if not messages:
        raise BadInput("a conversation needs at least one message", source=source, field="messages")
    return [_message(message, f"messages[{index}]", source) for index, message in enumerate(messages)]


def plain(value: Any, field: str, source: str | Path | None = None, depth: int = 0) -> Any:
    """A copy of a JSON-like value in exact lists, dicts and scalars: a template never meets an object with methods."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if depth > _DEPTH:
        raise BadInput(f"nested more than {_DEPTH} deep", source=source, field=field)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise BadInput(f"a key must be a text, not {_kind(key)}", source=source, field=field)
        return {str(key): plain(item, f"{field}.{key}", source, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{field}[{index}]", source, depth + 1) for index, item in enumerate(value)]
    if isinstance(value, str):  # a subclass (an enum, a numpy scalar) may bring methods along: only its value is taken
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise BadInput(
        f"only texts, numbers, lists and dicts can be shown to a template, not {_kind(value)}",
        source=source,
        field=field,
    )


def _message(message: Any, field: str, source: str | Path | None) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise BadInput(f"a message is a dict with role and content, not {_kind(message)}", source=source, field=field)
    copy = {key: value for key, value in plain(message, field, source).items() if value is not None}
    if not isinstance(copy.get("role"), str):
        raise BadInput(_wanted(copy, "role", "a text such as 'user'"), source=source, field=f"{field}.role")
    content = copy.get("content")
    if content is None and "content" not in copy and copy.get("tool_calls"):
        return _with_reasoning(copy)
    if isinstance(content, list):
        for index, part in enumerate(content):
            _check_part(part, f"{field}.content[{index}]", source)
    elif not isinstance(content, str):
        raise BadInput(_wanted(copy, "content", "a text, or a list of parts"), source=source, field=f"{field}.content")
    return _with_reasoning(copy)


def _check_part(part: Any, field: str, source: str | Path | None) -> None:
    if not isinstance(part, dict):
        raise BadInput(f"a part is a dict with a type, not {_kind(part)}", source=source, field=field)
    if not isinstance(part.get("type"), str):
        raise BadInput(_wanted(part, "type", "a text such as 'text'"), source=source, field=f"{field}.type")
    if part["type"] == "text" and not isinstance(part.get("text"), str):
        raise BadInput(_wanted(part, "text", "a text"), source=source, field=f"{field}.text")


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    reasoning = next((message[name] for name in _REASONING if message.get(name) is not None), None)
    return message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _wanted(holder: dict[str, Any], name: str, wanted: str) -> str:
    return f"must be {wanted}, not {_kind(holder[name])}" if name in holder else f"is missing; it must be {wanted}"


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"
