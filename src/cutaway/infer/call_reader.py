"""Finds the calls of tools in an answer, while it is being written.

Text and calls come apart in the four spellings of text/tools.py; an answer that begins with a brace may be a call
without marks, as Llama's are. `CallReader` tells of a call when it is whole, and only if its JSON is right and its tool
was offered: else it stays text. Where the answer is held to calls (infer/tool_calls.py) nothing can go wrong any more:
`HeldReader` tells of arguments as they come.
Read next: infer/tool_calls.py
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from cutaway.text.tools import Style

BEGIN: Mapping[Style, str] = {
    "hermes": "<tool_call>",
    "mistral": "[TOOL_CALLS]",
    "named": "[TOOL_CALLS]",
    "llama": "<|python_tag|>",
}
BARE = ("hermes", "llama")  # where an answer that begins with a brace may be a call without marks
END: Mapping[Style, str] = {"hermes": "</tool_call>", "mistral": "", "named": "", "llama": ""}
_LIKELY = '{"parameters"'
_BARE = re.compile(r'\{\s*"(?:name|type|function|arguments|parameters)"')
_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')
_NAMED = re.compile(r"(?:\[TOOL_CALLS\])?\s*([A-Za-z0-9_.-]{1,64})\[ARGS\]\s*(?=\{)")


@dataclass(frozen=True, kw_only=True)
class Delta:
    """What is new: `text`, or of call number `index` its `id` and `name` (told once, first) and more of `arguments`."""

    text: str = ""
    index: int | None = None
    id: str | None = None
    name: str | None = None
    arguments: str = ""


def reader(
    style: Style,
    names: Collection[str],
    marks: Mapping[int, str] | None = None,
    *,
    sure: bool = False,
    bare: bool = True,
) -> CallReader | HeldReader:
    """What reads one answer. `names`: the tools that were offered. `sure`: the answer is held to a grammar of calls.
    `bare`: JSON without marks may be a call too, where models of that style write such."""
    return HeldReader(style, marks) if sure else CallReader(style, names, marks, bare=bare)


class CallReader:
    """Reads an answer that may hold calls, text, or both."""

    def __init__(
        self, style: Style, names: Collection[str], marks: Mapping[int, str] | None = None, *, bare: bool = True
    ):
        self.style: Style = style
        self.names, self.marks = frozenset(names), dict(marks or {})
        self._bare = bare and style in BARE
        self.count = 0  # calls that were told of
        self._held = ""  # what is not told of yet
        self._mark: str | None = None  # what began the call that is being read: "" for a brace, None for no call
        self._begun = False  # whether there was anything but blanks

    def push(self, text: str, token: int | None = None) -> list[Delta]:
        """More of the answer; `token` is the one that `text` came with. Returns what is now sure."""
        self._held += text + (self.marks.get(token, "") if token is not None else "")
        told: list[Delta] = []
        while self._look(told) if self._mark is None else self._close(told):
            pass
        return told

    def end(self) -> list[Delta]:
        """The answer is over: what was held back is a call after all, or text."""
        rest, mark = self._held, self._mark
        self._held, self._mark = "", None
        if mark is None:
            return [Delta(text=rest)] if rest.strip() or (rest and not self.count) else []  # blanks behind calls: none
        return self._whole(rest) or [Delta(text=mark + rest)]

    def _look(self, told: list[Delta]) -> bool:
        """Gives the text up to the beginning of a call, without the blanks before it; whether there is one."""
        if self.count and not self._begun:  # Llama's way to make several: braces, with a semicolon between
            self._held = self._held.lstrip("; \n")
        stripped = self._held.lstrip()
        if not self._begun and stripped.startswith("{") and self._bare:
            self._held, self._mark, self._begun = stripped, "", True
            return True
        mark = BEGIN[self.style]
        place = self._held.find(mark)
        cut = place if place >= 0 else len(self._held) - _beginning(self._held, mark)
        if said := self._held[:cut].rstrip():
            told.append(Delta(text=said))
            self._held, self._begun, place = self._held[len(said) :], True, place - len(said)
        if place < 0 or mark not in self._held:
            return False
        self._held, self._mark, self._begun = self._held[place + len(mark) :], mark, True
        return True

    def _close(self, told: list[Delta]) -> bool:
        """Tells of a call that is whole; whether it is."""
        body, rest = self._ended()
        if body is None:
            return False
        calls = self._whole(body)
        told += calls or [Delta(text=(self._mark or "") + self._held[: len(self._held) - len(rest)])]
        self._held, self._mark = rest, None
        self._begun = self._begun and not (calls and self.style == "llama")
        return bool(self._held)

    def _ended(self) -> tuple[str | None, str]:
        """The body of the call and what stands behind it; no body while the call goes on."""
        end = END[self.style]
        if self._mark and end:
            body, found, rest = self._held.partition(end)
            return (body if found else None), rest
        if not self._mark and len(self._held) > len(_LIKELY) and not _BARE.match(self._held):
            return self._held, ""  # JSON that is no call: no need to wait for its end
        opens = "[" if self.style == "mistral" else "{"
        start = self._held.find(opens)
        value = _Value()
        size = start + value.read(self._held[start:]) if start >= 0 else 0
        return (self._held[:size], self._held[size:]) if value.closed else (None, "")

    def _whole(self, body: str) -> list[Delta]:
        """The calls of a complete text; none where it is wrong."""
        if self.style == "named":
            found = _NAMED.match(body)
            pairs = [(found[1], _loaded(body[found.end() :]))] if found else []
        else:
            value = _loaded(body)
            pairs = [_pair(one) for one in (value if isinstance(value, list) else [value])]
        if not pairs or not all(name in self.names and isinstance(arguments, dict) for name, arguments in pairs):
            return []
        first, self.count = self.count, self.count + len(pairs)
        return [
            Delta(index=index, id=new_id(self.style), name=name, arguments=json.dumps(arguments, ensure_ascii=False))
            for index, (name, arguments) in enumerate(pairs, first)
        ]


class HeldReader:
    """Reads an answer that is held to calls: nothing else can be in it."""

    def __init__(self, style: Style, marks: Mapping[int, str] | None = None):
        self.style: Style = style
        self.marks = dict(marks or {})
        self.count = 0
        self._text, self._at = "", 0
        self._open: _Value | None = None

    def push(self, text: str, token: int | None = None) -> list[Delta]:
        """As `CallReader.push`."""
        self._text += text + (self.marks.get(token, "") if token is not None else "")
        told: list[Delta] = []
        while True:
            if self._open is None:
                found = (_NAMED if self.style == "named" else _HEAD).search(self._text, self._at)
                if found is None:
                    return told
                name = found[1] if self.style == "named" else json.loads(found[1])
                told.append(Delta(index=self.count, id=new_id(self.style), name=name))
                self._at, self._open, self.count = found.end(), _Value(), self.count + 1
            size = self._open.read(self._text[self._at :])
            if size:
                told.append(Delta(index=self.count - 1, arguments=self._text[self._at : self._at + size]))
            self._at += size
            if not self._open.closed:
                return told
            self._open = None

    def end(self) -> list[Delta]:
        """Nothing is ever held back but the marks around a call."""
        return []


def new_id(style: Style) -> str:
    """A name for a call. Mistral's template takes nine letters and digits, and nothing else."""
    return uuid.uuid4().hex[:9] if style in ("mistral", "named") else f"call_{uuid.uuid4().hex[:24]}"


class _Value:
    """Follows one JSON value in braces or brackets, over several pieces, to its end."""

    def __init__(self) -> None:
        self.depth, self.quoted, self.escaped, self.closed = 0, False, False, False

    def read(self, text: str) -> int:
        """How many characters of `text` belong to it."""
        for place, one in enumerate(text):
            if self.escaped:
                self.escaped = False
            elif self.quoted:
                self.escaped, self.quoted = one == "\\", one != '"'
            elif one == '"':
                self.quoted = True
            elif one in "{[":
                self.depth += 1
            elif one in "}]":
                self.depth -= 1
                if self.depth == 0:
                    self.closed = True
                    return place + 1
        return len(text)


def _pair(one: Any) -> tuple[Any, Any]:
    """The name and the arguments of a call as models write it."""
    if isinstance(one, dict) and isinstance(one.get("function"), dict):
        one = one["function"]
    if not isinstance(one, dict):
        return None, None
    return one.get("name"), _loaded(one.get("arguments", one.get("parameters", {})))


def _beginning(text: str, mark: str) -> int:
    """The length of the longest beginning of `mark` that `text` ends with."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:n])), 0)


def _loaded(body: Any) -> Any:
    """The value of a text; anything else as it is."""
    if not isinstance(body, str):
        return body
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
