"""JSON schemas from outside: how large they may be, what cannot be promised, and how several become one.

llguidance refuses what it does not know (`not`, `uniqueItems`, other sites' `$ref`); here stands what it would let
through. Keys that a schema does not list may come twice, and count once: `minProperties` cannot be held above those
that are required. `x-guidance` would change the rules of writing.
JSON Schema, draft 2020-12.   Read next: infer/constrain.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cutaway.base.errors import BadInput

LONGEST = 65_536  # characters; the time to read a schema grows with the square of its properties
DEEPEST = 64
ADDRESS = 64  # characters of an email address: its part before the @ may have no more (RFC 5321, section 4.5.3.1.1)
_PLAIN = ("const", "enum", "default", "examples")  # hold values, and no schemas


def compact(schema: Any, field: str) -> str:
    """The schema as JSON. Raises BadInput, naming the place, for what is none or cannot be kept."""
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"is no JSON: {error}", field=field) from None
    if not isinstance(schema, Mapping):
        raise BadInput(f"must be an object, is a {type(schema).__name__}", field=field)
    if "x-guidance" in schema:
        raise BadInput("is no keyword of JSON Schema", field=f"{field}.x-guidance")
    _check(schema, field, 0)
    for place, inner in subschemas(schema, field):
        least = inner.get("minProperties", 0)
        if isinstance(least, int) and least > max(1, len(inner.get("required", ()))):
            said = "must not be above the number of required keys: others may come twice, and would count once"
            raise BadInput(said, field=f"{place}.minProperties")
    try:
        text = json.dumps(_bounded(schema), ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except ValueError as error:  # NaN, half a character
        raise BadInput(f"is no JSON: {error}", field=field) from None
    if len(text) > LONGEST:
        raise BadInput(f"{len(text)} characters long; at most {LONGEST}", field=field)
    return text


def subschemas(value: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every object inside that could be a schema, with its place; values (`const`, `enum`) are none."""
    if isinstance(value, Mapping):
        yield place, value
        for key, inner in value.items():
            if key not in _PLAIN:
                yield from subschemas(inner, f"{place}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from subschemas(inner, f"{place}[{index}]")


def rooted(schema: Any, root: str) -> Any:
    """The same schema for a place inside another one: what it refers to is looked for below `root` ("#/$defs/a")."""
    if isinstance(schema, Mapping):
        return {
            key: root + value[1:]
            if key in ("$ref", "$dynamicRef") and isinstance(value, str) and value.startswith("#")
            else value
            if key in _PLAIN
            else rooted(value, root)
            for key, value in schema.items()
        }
    return [rooted(inner, root) for inner in schema] if isinstance(schema, (list, tuple)) else schema


def _bounded(schema: Any) -> Any:
    """The same with a length where llguidance knows none: of email addresses."""
    if isinstance(schema, Mapping):
        made = {key: value if key in _PLAIN else _bounded(value) for key, value in schema.items()}
        if schema.get("format") == "email":
            most = schema.get("maxLength", ADDRESS)
            made["maxLength"] = min(most, ADDRESS) if isinstance(most, int) else most
        return made
    return [_bounded(inner) for inner in schema] if isinstance(schema, (list, tuple)) else schema


def _check(value: Any, place: str, depth: int) -> None:
    """JSON values alone, and not too deep."""
    if depth > DEEPEST:
        raise BadInput(f"nested more than {DEEPEST} deep", field=place)
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise BadInput(f"a key must be a text, not {key!r}", field=place)
            _check(inner, f"{place}.{key}", depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            _check(inner, f"{place}[{index}]", depth + 1)
    elif value is not None and not isinstance(value, (str, int, float, bool)):
        raise BadInput(f"is a {type(value).__name__}, which JSON has not", field=place)
