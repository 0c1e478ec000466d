"""The messages of a request as a model's template takes them.

OpenAI's messages differ from those that templates were written for: content may come in parts, and instructions from a
"developer" instead of the "system".   Read next: text/tools.py, text/chat.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cutaway.serve.bodies import Message
from cutaway.serve.faults import Fault


def conversation(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Raises Fault for a part that is no text: no model here sees or hears."""
    return [
        _message(message.model_dump(exclude_none=True), f"messages.{index}") for index, message in enumerate(messages)
    ]


def _message(message: dict[str, Any], field: str) -> dict[str, Any]:
    if message["role"] == "developer":
        message["role"] = "system"
    if isinstance(message.get("content"), list):
        message["content"] = "".join(_text(part, f"{field}.content.{n}") for n, part in enumerate(message["content"]))
    if message.get("tool_calls"):
        message.setdefault("content", "")
    return message


def _text(part: dict[str, Any], field: str) -> str:
    if part.get("type") in ("text", "refusal") and isinstance(text := part.get(part["type"]), str):
        return text
    raise Fault(400, f"{field}: only parts with a text are read here", param=field)
