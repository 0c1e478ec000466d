"""The fields of a config.json, read with suspicion: every one has its type and its bounds, and an error names it.

Fields that nobody asks for are tolerated: checkpoints carry many that say nothing about the arithmetic.

Read next: weights/architectures/llama.py
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean

Made = TypeVar("Made")

REQUIRED: Any = object()
MOST = 2**24  # no size of a real model is larger, and products of a few such still fit in 64 bits
LAYERS = 2**10
FILE = 2**24  # bytes of a config.json; real ones have a few thousand


class Fields:
    """A JSON object and the file it came from. `within` is where in the file it stands ("text_config")."""

    def __init__(self, data: Mapping[str, Any], source: str | Path, within: str = ""):
        self.data, self.source, self.within = data, source, within

    @classmethod
    def of_file(cls, path: Path) -> Fields:
        """Raises BadInput where the file is no JSON object."""
        try:
            with path.open("rb") as file:
                text = file.read(FILE + 1)
        except OSError as error:
            raise BadInput(f"cannot be read: {error.strerror or error}", source=path) from error
        if len(text) > FILE:
            raise BadInput(f"larger than {FILE} bytes: no configuration", source=path)
        return cls(parse_object(text, path), path)

    def refuse(self, name: str, why: str) -> NoReturn:
        raise BadInput(why, source=self.source, field=f"{self.within}.{name}" if self.within else name)

    def get(self, name: str, default: Any = REQUIRED) -> Any:
        """The field as it stands; null counts as absent. Raises BadInput for an absent one without a default."""
        value = self.data.get(name)
        if value is not None:
            return value
        return self.refuse(name, "this field is missing") if default is REQUIRED else default

    def says(self, name: str) -> bool:
        """Whether the field is there, be it null."""
        return name in self.data

    def count(self, name: str, default: Any = REQUIRED, *, most: int = MOST) -> int:
        """A whole number from 1 to `most`."""
        value = self.get(name, default)
        if value is default:
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(name, f"expected a whole number, not {_shown(value)}")
        if not 1 <= value <= most:
            self.refuse(name, f"must be from 1 to {most}, is {_shown(value)}")
        return value

    def number(self, name: str, default: Any = REQUIRED) -> float:
        """A finite number, 0 or more."""
        value = self.get(name, default)
        if value is default:
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.refuse(name, f"expected a number, not {_shown(value)}")
        if not 0 <= value <= 1e300 or not math.isfinite(float(value)):
            self.refuse(name, f"must be a finite number, 0 or more, is {_shown(value)}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.get(name, default)
        if not isinstance(value, bool):
            self.refuse(name, f"expected true or false, not {_shown(value)}")
        return value

    def choice(self, name: str, table: Mapping[str, Made], default: str) -> Made:
        """What `table` holds under the field's text. Raises BadInput for a name that is not in it."""
        value = self.get(name, default)
        if not isinstance(value, str) or value not in table:
            known = did_you_mean(value, table) if isinstance(value, str) else f" (known: {', '.join(table)})"
            self.refuse(name, f"{_shown(value)} is not known here{known}")
        return table[value]

    def names(self, name: str, known: Sequence[str], length: int) -> tuple[str, ...] | None:
        """A list of `length` names, each of them known; None where the field is absent."""
        value = self.get(name, None)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != length:
            self.refuse(name, f"expected a list of {length} names, not {_shown(value)}")
        for one in value:
            if one not in known:
                self.refuse(name, f"{_shown(one)} is not known here (known: {', '.join(known)})")
        return tuple(value)

    def ids(self, name: str, default: tuple[int, ...], vocab: int) -> tuple[int, ...]:
        """A token id of so many, or a list of them."""
        told = self.get(name, list(default))
        ids = told if isinstance(told, list) else [told]
        if not ids or not all(type(id) is int and 0 <= id < vocab for id in ids):
            self.refuse(name, f"must be the id of one of {vocab} tokens, is {_shown(told)}")
        return tuple(ids)

    def inner(self, name: str) -> Fields | None:
        """The object under a field; None where it is absent."""
        value = self.get(name, None)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.refuse(name, f"expected an object, not {_shown(value)}")
        return Fields(value, self.source, f"{self.within}.{name}" if self.within else name)

    def told(self, make: Callable[[], Made]) -> Made:
        """What `make` returns; an impossible value that it refuses is reported as this file's fault."""
        try:
            return make()
        except BadInput as error:
            if error.source is not None:
                raise
            raise BadInput(error.message, source=self.source, field=error.field) from error


def parse_object(text: bytes, source: Path) -> dict[str, Any]:
    """A JSON object. Raises BadInput for anything else, a name that stands twice and nesting without end included."""
    try:
        data = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        raise BadInput(f"not UTF-8 text (byte {error.start})", source=source) from error
    except json.JSONDecodeError as error:
        raise BadInput(f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})", source=source) from error
    except _Twice as error:
        raise BadInput("this name stands twice in one object", source=source, field=str(error)) from error
    except (RecursionError, ValueError) as error:  # nested without end, or a number of thousands of digits
        raise BadInput(f"not JSON that can be read: {str(error).splitlines()[0]}", source=source) from error
    if not isinstance(data, dict):
        raise BadInput(f"expected a JSON object, not {_shown(data)}", source=source)
    return data


class _Twice(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Twice(_shown(name))
            seen.add(name)
    return made


def _shown(value: Any) -> str:
    """A value as an error shows it: short, on one line."""
    try:
        text = json.dumps(value)
    except ValueError:  # a number with more digits than Python will print
        text = "a number beyond all bounds"
    return text if len(text) <= 60 else f"{text[:57]}..."
