"""A tree of frozen values to plain data and back, for JSON.

A value becomes a dict whose "type" is its class name; the name is resolved through a table that the caller owns, never
by import path, so that a file can only ever name classes that were meant. Tuples become lists, and lists tuples.

Read next: models/decoder.py
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean

DEPTH = 64  # deeper than any real value; a hostile file must not exhaust the stack


def to_plain(value: Any) -> dict[str, Any]:
    """The JSON-able dict of a frozen dataclass value. Raises BadInput for anything that would not come back equal."""
    if not is_dataclass(value) or isinstance(value, type):
        raise BadInput(f"only a dataclass value can be written down, not {type(value).__name__}")
    return _plain(value, "")


def from_plain(data: Any, table: Mapping[str, type], *, source: str | Path | None = None) -> Any:
    """The value that `to_plain` wrote. `table` maps class names to classes; `source` is the file that an error names.

    Raises BadInput, naming the place inside (`blocks.3.mixer.heads`), for an unknown type, an unknown, missing or
    wrongly typed field, and for a value that its own class refuses.
    """
    if not isinstance(data, dict):
        raise BadInput(f'expected an object with a "type", not {_kind(data)}', source=source)
    return _value(data, table, source, "", DEPTH)


def difference(old: Any, new: Any, where: str = "") -> str | None:
    """The dotted place of the first difference between two plain values; None where they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            inner = _inside(where, name)
            if name not in old or name not in new:
                return inner
            found = difference(old[name], new[name], inner)
            if found is not None:
                return found
        return None
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        found = (difference(*pair, _inside(where, at)) for at, pair in enumerate(zip(old, new, strict=True)))
        return next((one for one in found if one is not None), None)
    return None if old == new and type(old) is type(new) else where


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadInput(f"{value} has no JSON form", field=where or None)
        return value
    if isinstance(value, tuple):
        return [_plain(item, _inside(where, place)) for place, item in enumerate(value)]
    if is_dataclass(value) and not isinstance(value, type):
        given = [field for field in fields(value) if field.init]
        if any(field.name == "type" for field in given):
            raise BadInput(f'{type(value).__name__} has a field named "type", which is the tag', field=where or None)
        inner = {field.name: _plain(getattr(value, field.name), _inside(where, field.name)) for field in given}
        return {"type": type(value).__name__, **inner}
    raise BadInput(f"a value of type {type(value).__name__} cannot be written down", field=where or None)


def _value(data: Any, table: Mapping[str, type], source: str | Path | None, where: str, depth: int) -> Any:
    if depth == 0:
        raise BadInput(f"nested deeper than {DEPTH} levels", source=source)
    if isinstance(data, list):
        return tuple(_value(item, table, source, _inside(where, at), depth - 1) for at, item in enumerate(data))
    if not isinstance(data, dict):
        return data

    kind = data.get("type")
    if not isinstance(kind, str):
        raise BadInput('an object needs a "type"', source=source, field=where or None)
    if kind not in table:
        message = f'unknown type "{kind}"{did_you_mean(kind, table)}'
        raise BadInput(message, source=source, field=where or None)
    made, known = table[kind], {field.name: field for field in fields(table[kind]) if field.init}
    _check_names(kind, data, known, source, where)

    hints, given = _hints(made), {}
    for name in data.keys() - {"type"}:
        given[name] = _value(data[name], table, source, _inside(where, name), depth - 1)
        if name in hints and not _fits(given[name], hints[name]):
            message = f"{kind} takes {_written(hints[name])} here, not {_kind(data[name])}"
            raise BadInput(message, source=source, field=_inside(where, name))
    try:
        return made(**given)
    except BadInput as error:
        raise BadInput(error.message, source=source, field=_inside(where, error.field or "")) from error
    except (TypeError, ValueError) as error:
        raise BadInput(f"{kind} refuses this: {error}", source=source, field=where or None) from error


def _check_names(kind: str, data: dict, known: Mapping[str, Field], source: str | Path | None, where: str) -> None:
    for name in data:
        if name != "type" and name not in known:
            message = f'{kind} has no field "{name}"{did_you_mean(name, known)}'
            raise BadInput(message, source=source, field=_inside(where, name))
    for name, field in known.items():
        if name not in data and field.default is MISSING and field.default_factory is MISSING:
            raise BadInput(f'{kind} needs the field "{name}"', source=source, field=where or None)


def _hints(made: type) -> dict[str, Any]:
    try:
        return get_type_hints(made)
    except NameError:  # an annotation that only the type checker imports: the class checks for itself
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Whether `value` may stand in a field annotated `hint`; an annotation that is not understood here allows all."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(inner) == 2 and inner[1] is Ellipsis:
            return all(_fits(item, inner[0]) for item in value)
        return len(value) == len(inner) and all(map(_fits, value, inner))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is None or hint is type(None):
        return value is None
    if isinstance(hint, type) and not getattr(hint, "_is_protocol", False):
        return isinstance(value, hint)
    return hint is typing.Any or not isinstance(hint, type) or not isinstance(value, (bool, int, float, str, tuple))


def _kind(data: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "null"}
    return names.get(type(data), repr(data))


def _written(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _inside(where: str, name: str | int) -> str:
    return ".".join(part for part in (where, str(name)) if part)
