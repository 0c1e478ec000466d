"""What an answer may be, and what it calls: from `response_format`, `guided_...` and `tools` to a constraint and back.

https://platform.openai.com/docs/guides/structured-outputs, .../function-calling. Where tools are offered beside a
`response_format`, one grammar lets the answer be calls or JSON of that schema, and nothing else.
A grammar is begun here, in the thread that reads the request: what is slow about it is then kept for the answers.
Read next: infer/constrain.py, infer/tool_calls.py, infer/call_reader.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.infer.ask import Event
from cutaway.infer.call_reader import Delta, reader
from cutaway.infer.constrain import Constraint
from cutaway.infer.tool_calls import held, marks
from cutaway.serve.bodies import ChatBody, Format, Schema, Wanted
from cutaway.serve.faults import Fault
from cutaway.serve.roster import Speaker
from cutaway.text.tools import Style, Tool, style_of, tools_of

GUIDES = {"guided_json": "json_schema", "guided_regex": "regex", "guided_choice": "choice", "guided_grammar": "grammar"}
SCHEMA = "response_format.json_schema.schema"


@dataclass(frozen=True, kw_only=True)
class Offer:
    """The tools of a request. `choice`: as `held` takes it; `style`: how this model spells a call; `schema`: what an
    answer has to be that calls nothing, None for any text."""

    tools: tuple[Tool, ...]
    choice: str
    style: Style
    parallel: bool
    schema: Schema | None = None

    @property
    def bare(self) -> bool:
        """Whether JSON without marks around it may be a call."""
        return self.schema is None or self.style == "llama"

    @property
    def sure(self) -> bool:
        """Whether the answer can be nothing but calls."""
        return self.choice not in ("none", "auto")


def offered(speaker: Speaker, body: ChatBody) -> Offer | None:
    """What may be called; None where there are no tools, or none may be. Raises Fault, BadInput."""
    told = body.tool_choice
    choice = told if isinstance(told, str) else told.function.name if told is not None else "auto"
    if not body.tools:
        if told not in (None, "none", "auto"):
            raise Fault(400, "tool_choice: there are no tools", param="tool_choice")
        return None
    tools = tools_of([tool.model_dump(exclude_none=True) for tool in body.tools])
    if choice == "none" or speaker.tokenizer is None:
        return None
    if not isinstance(told, str) and told is not None and all(tool.name != choice for tool in tools):
        raise Fault(400, f"tool_choice: no tool is called {choice!r}", param="tool_choice")
    return Offer(
        tools=tools,
        choice=choice,
        style=style_of(speaker.tokenizer),
        parallel=body.parallel_tool_calls is not False,
        schema=_schema(body.response_format),
    )


def guided(speaker: Speaker, body: Wanted) -> Constraint | None:
    """What the `guided_...` fields ask for. Raises Fault, BadInput."""
    return _begun(speaker, _guide(body))


def constrained(speaker: Speaker, body: ChatBody, offer: Offer | None) -> Constraint | None:
    """What the answer to a conversation has to be; None where it is free. Raises Fault, BadInput."""
    schema, guide = _schema(body.response_format), _guide(body)
    shape = None if schema is None else _asked(SCHEMA, "json_schema", schema)
    if guide is not None and (shape is not None or offer is not None):
        said = "response_format is there already" if shape is not None else "beside tools only response_format is kept"
        raise Fault(400, f"{guide.param}: {said}", param=guide.param)
    if offer is None or speaker.tokenizer is None:
        return _begun(speaker, shape or guide)
    tokenizer = speaker.tokenizer
    calls = held(tokenizer, offer.tools, offer.style, offer.choice, parallel=offer.parallel, answer=offer.schema)
    if calls is not None:
        calls.begin(tokenizer)
    return calls


def _schema(told: Format | None) -> Schema | None:
    """The schema of a `response_format`; None for any text. Raises Fault."""
    if told is None or told.type == "text":
        return None
    if told.type == "json_object":
        return {"type": "object"}
    if told.json_schema is None or told.json_schema.schema_ is None:
        raise Fault(400, f"{SCHEMA}: is missing", param=SCHEMA)
    return told.json_schema.schema_


@dataclass(frozen=True)
class Asked:
    """A constraint that no tokenizer has seen yet, and the field that asks for it."""

    param: str
    constraint: Constraint


def _guide(body: Wanted) -> Asked | None:
    asked = [name for name in GUIDES if getattr(body, name) is not None]
    if len(asked) > 1:
        raise Fault(400, f"{asked[1]}: {asked[0]} is there already", param=asked[1])
    return _asked(asked[0], GUIDES[asked[0]], getattr(body, asked[0])) if asked else None


def _asked(param: str, kind: Any, body: Any) -> Asked:
    try:
        return Asked(param, Constraint(kind=kind, body=body))
    except BadInput as error:
        raise _fault(param, kind, error) from error


def _begun(speaker: Speaker, asked: Asked | None) -> Constraint | None:
    if asked is None:
        return None
    try:
        asked.constraint.begin(speaker.tokenizer)
    except BadInput as error:
        raise _fault(asked.param, asked.constraint.kind, error) from error
    return asked.constraint


def _fault(param: str, kind: str, error: BadInput) -> Fault:
    inner = f"{error.field}: " if error.field not in (None, kind) else ""
    return Fault(400, f"{param}: {inner}{error.message}", param=param)


class Spoken:
    """One answer as a message: its text, and the calls in it."""

    def __init__(self, speaker: Speaker, offer: Offer | None):
        self.text = ""
        self.calls: list[dict[str, Any]] = []
        self._reader = None
        if offer is not None and speaker.tokenizer is not None:
            names = [tool.name for tool in offer.tools]
            known = marks(speaker.tokenizer)
            self._reader = reader(offer.style, names, known, sure=offer.sure, bare=offer.bare)

    def push(self, events: Sequence[Event]) -> list[dict[str, Any]]:
        """More of the answer; what is new of the message, as a stream tells it."""
        if self._reader is None:
            text = "".join(event.text for event in events)
            self.text += text
            return [{"content": text}] if text else []
        found: list[Delta] = []
        for event in events:
            found += self._reader.push(event.text, event.token)
            found += self._reader.end() if event.kind == "end" else []
        return [self._take(delta) for delta in found]

    def _take(self, delta: Delta) -> dict[str, Any]:
        if delta.index is None:
            self.text += delta.text
            return {"content": delta.text}
        told: dict[str, Any] = {"index": delta.index, "function": {"arguments": delta.arguments}}
        if delta.id is not None:
            told |= {"id": delta.id, "type": "function"}
            told["function"] = {"name": delta.name, "arguments": delta.arguments}
            self.calls.append({"id": delta.id, "type": "function", "function": dict(told["function"])})
        else:
            self.calls[delta.index]["function"]["arguments"] += delta.arguments
        return {"tool_calls": [told]}

    @property
    def message(self) -> dict[str, Any]:
        """The whole of it."""
        if not self.calls:
            return {"role": "assistant", "content": self.text, "refusal": None}
        return {"role": "assistant", "content": self.text or None, "refusal": None, "tool_calls": self.calls}

    def ended(self, end: dict[str, Any]) -> dict[str, Any]:
        """The end of the answer: one that stopped behind calls wants them to be made."""
        return {**end, "finish_reason": "tool_calls"} if self.calls and end["finish_reason"] == "stop" else end
