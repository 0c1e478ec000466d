"""`field=value` on a recipe: a knob of its function (`steps=500`), or any place in the value (`optimiser.rate=1e-3`).

A place is dotted; `*` stands for all of a list (`task.model.blocks.*.feed.hidden=512`). What is written there is JSON,
or a text, or the name of a value whose fields all have defaults (`optimiser=Lion`).   Read next: recipes/table.py
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.base.values import from_plain, to_plain

SOURCE = "recipe"


def make(recipe: Callable[..., Any], changes: Iterable[str], table: Mapping[str, type]) -> Any:
    """The value of a recipe's function, changed. Raises BadInput, with the nearest name, for what does not fit."""
    knobs, hints = inspect.signature(recipe).parameters, get_type_hints(recipe)
    given, places = {}, []
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or not name:
            raise BadInput(f'"{change}" is no change: write field=value', source=SOURCE)
        if name in knobs:
            given[name] = _fitting(name, text, hints[name])
        else:
            places.append((name, text))
    value = recipe(**given)
    if not places:
        return value
    plain = to_plain(value)
    for name, text in places:
        _put(plain, name.split("."), text, table, (), tuple(knobs))
    return from_plain(plain, table, source=SOURCE)


def _put(
    plain: Any, path: list[str], text: str, table: Mapping[str, type], done: tuple[str, ...], knobs: tuple[str, ...]
) -> None:
    """Writes `text` at `path` inside `plain`."""
    name, *rest = path
    where = ".".join((*done, name))
    if isinstance(plain, list):
        if name == "*":
            places = list(range(len(plain)))
        elif name.isdecimal() and int(name) < len(plain):
            places = [int(name)]
        else:
            raise BadInput(f"there are {len(plain)}: write a number below that, or *", source=SOURCE, field=where)
    elif isinstance(plain, dict) and name in plain and name != "type":
        places = [name]
    else:
        known = [one for one in plain if one != "type"] if isinstance(plain, dict) else []
        known += knobs if not done else ()
        raise BadInput(f"there is no such field{did_you_mean(name, known)}", source=SOURCE, field=where)
    holder: Any = plain
    for place in places:
        if rest:
            _put(holder[place], rest, text, table, (*done, name), knobs)
        else:
            holder[place] = _read(holder[place], text, table)


def _read(old: Any, text: str, table: Mapping[str, type]) -> Any:
    """What a text means in the place of `old`."""
    if isinstance(old, str):
        return text
    if text in table:
        return {"type": text}
    try:
        return json.loads(text)
    except ValueError:
        return {"none": None, "true": True, "false": False}.get(text.lower(), text)


def _fitting(name: str, text: str, hint: Any) -> Any:
    """A knob's value. Raises BadInput where the text is none of its kind."""
    kinds = get_args(hint) if get_origin(hint) in (Union, type(int | str)) else (hint,)
    if type(None) in kinds and text.lower() == "none":
        return None
    for kind in kinds:
        try:
            if kind in (int, float, str):
                return kind(text)
        except ValueError:
            continue
    said = " or ".join({int: "a whole number", float: "a number", str: "a text"}.get(kind, "none") for kind in kinds)
    raise BadInput(f'takes {said}, not "{text}"', source=SOURCE, field=name)
