"""What an answer may be, and what it calls: tools.  (being written)"""

from __future__ import annotations

from typing import Any

from cutaway.serve.bodies import ChatBody, Wanted
from cutaway.serve.faults import Fault


def constraint(body: Wanted) -> Any:
    """Raises Fault: structured answers are not served yet."""
    for name in ("guided_json", "guided_regex", "guided_choice", "guided_grammar", "tools", "response_format"):
        if getattr(body, name, None) is not None:
            raise Fault(400, f"{name}: is not served yet", param=name)


def chat_constraint(speaker: Any, body: ChatBody) -> Any:
    return constraint(body)


def offered(body: ChatBody) -> Any:
    return None


class Spoken:
    def __init__(self, body: ChatBody):
        self.text = ""

    def push(self, text: str) -> list[dict[str, Any]]:
        self.text += text
        return [{"content": text}] if text else []

    def end(self) -> list[dict[str, Any]]:
        return []

    def called(self) -> dict[str, Any]:
        return {}

    def message(self) -> tuple[dict[str, Any], bool]:
        return {"role": "assistant", "content": self.text, "refusal": None}, False
