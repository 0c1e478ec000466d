"""What a chat template may call, and what each call can cost beyond its arguments.

A result is at most a few times its arguments for almost every filter and method, and those are simply listed.
The rest name their price here before they run: `'a'|center(10**9)` is nine characters that ask for a gigabyte.
What is not listed cannot be called: no template needs it, and its cost is not known.
Read next: text/sandbox.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import TemplateError
from jinja2.exceptions import SecurityError

from cutaway.text.fuel import ELEMENT, Fuel


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


CONSTANT_FILTERS = _names("count d default first last length random")  # look at no more than one element
SHALLOW_FILTERS = _names(
    "batch items list map reject rejectattr reverse select selectattr slice"
)  # at each, not into it
PLAIN_FILTERS = _names(
    "abs attr capitalize count d default dictsort e escape filesizeformat first float forceescape int items last length"
    " lower map random reject rejectattr reverse safe select selectattr string truncate upper"
)
# The other tests look at a type or at one element.
DEEP_TESTS = _names("== != < <= > >= eq equalto ge greaterthan gt in le lessthan lower lt ne upper")
PLAIN_METHODS: Mapping[type, frozenset[str]] = {
    str: _names(
        "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit isidentifier islower"
        " isnumeric isprintable isspace istitle isupper lower partition removeprefix removesuffix startswith swapcase"
        " title upper"
    ),
    dict: _names("copy get items keys values"),
    list: _names("copy count index"),
    tuple: _names("count index"),
    float: _names("is_integer"),
}
_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_WIDE = re.compile(r"\d{4}|\*")  # a field width or precision of a thousand and more, or one taken from the arguments
_NESTED = re.compile(r"\{[^{}]*\{")  # a format field inside a format field: a width taken from the arguments


def _size(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") else 1


def _number(value: Any) -> int:
    return max(0, value) if isinstance(value, int) else 0


def _per_element(fuel: Fuel, value: Any, *_: Any, **__: Any) -> int:
    return ELEMENT * _size(value)


def _ordered(fuel: Fuel, value: Any, *_: Any, **__: Any) -> int:
    return (ELEMENT * _size(value) + fuel.weigh(value)) * (1 + _size(value).bit_length())


def _center(fuel: Fuel, text: Any, width: Any = 80, *_: Any) -> int:
    return _number(width)


def _replace(fuel: Fuel, text: Any, old: Any = "", new: Any = "", *_: Any, **__: Any) -> int:
    return str(text).count(str(old)) * _size(new) * 6  # 6: `&quot;` where marked-safe text escapes what it takes in


def _join(fuel: Fuel, values: Any, between: Any = "", attribute: Any = None, d: Any = "") -> int:
    return ELEMENT * _size(values) + _size(values) * (_size(between) + _size(d)) * 6


def _indent(fuel: Fuel, text: Any, width: Any = 4, *_: Any, **__: Any) -> int:
    lines = 1 + sum(str(text).count(end) for end in _LINE_ENDS)
    return lines * (ELEMENT + (_number(width) if isinstance(width, int) else _size(width)))


def _format(fuel: Fuel, text: Any, *args: Any, **kwargs: Any) -> int:
    if _WIDE.search(str(text)) or _NESTED.search(str(text)):
        raise SecurityError("a format with a width of 1000 or more, or one taken from its arguments, is not allowed")
    fields = str(text).count("%") + str(text).count("{")
    return fields * (1000 + sum(fuel.weigh(value) for value in (*args, *kwargs.values())))


def _round(fuel: Fuel, value: Any, precision: Any = 0, *_: Any, **__: Any) -> int:
    if _number(precision) > 30:
        raise SecurityError(f"round to {precision} places is not allowed")
    return 0


def _batch(fuel: Fuel, value: Any, linecount: Any = 1, *_: Any, slices: Any = 0, **__: Any) -> int:
    return ELEMENT * (_number(linecount) + _number(slices) + _size(value))


def _sum(fuel: Fuel, values: Any, attribute: Any = None, start: Any = 0) -> int:
    return 0 if isinstance(start, (int, float)) else (1 + _size(values)) * (fuel.weigh(values) + fuel.weigh(start))


def _strip(fuel: Fuel, text: Any, chars: Any = None) -> int:
    return _size(text) * (1 + _size(chars) // 16)


def _split(fuel: Fuel, text: Any, sep: Any = None, *_: Any, **__: Any) -> int:
    if sep is None:
        return ELEMENT * sum(1 for _ in re.finditer(r"\S+", text))
    return ELEMENT * (1 + text.count(sep)) + _backwards(fuel, text, sep)


def _splitlines(fuel: Fuel, text: Any, *_: Any, **__: Any) -> int:
    return ELEMENT * (1 + sum(text.count(end) for end in _LINE_ENDS))


def _backwards(fuel: Fuel, text: Any, wanted: Any = "", *_: Any) -> int:
    return _size(text) * _size(wanted) // 16  # CPython searches from the right in time text * wanted


def _tojson(fuel: Fuel, value: Any, *_: Any, indent: Any = None, separators: Any = None, **__: Any) -> int:
    if indent is not None and (_number(indent) if isinstance(indent, int) else _size(indent)) > 32:
        raise SecurityError("tojson with an indent over 32 is not allowed")
    return 2 * fuel.weigh(value) * (1 + sum(_size(part) for part in separators or ()))


Price = Callable[..., int]
FILTER_PRICES: Mapping[str, Price] = {
    **dict.fromkeys(("list", "unique", "title", "wordcount"), _per_element),
    **dict.fromkeys(("sort", "groupby", "min", "max"), _ordered),
    **dict.fromkeys(("batch", "slice"), _batch),
    "center": _center,
    "format": _format,
    "indent": _indent,
    "join": _join,
    "replace": _replace,
    "round": _round,
    "sum": _sum,
    "trim": _strip,
    "tojson": _tojson,
    "urlencode": lambda fuel, value, *_: 12 * fuel.weigh(value),
}
STRING_PRICES: Mapping[str, Price] = {
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), _center),
    **dict.fromkeys(("strip", "lstrip", "rstrip"), _strip),
    **dict.fromkeys(("rfind", "rindex", "rpartition"), _backwards),
    **dict.fromkeys(("split", "rsplit"), _split),
    **dict.fromkeys(("format", "format_map"), _format),
    "join": _join,
    "replace": _replace,
    "splitlines": _splitlines,
}


def modulo_price(fuel: Fuel, left: Any, right: Any) -> int:
    """The price of `left % right` where `left` is a string: formatting, with as much as its fields may repeat."""
    return _format(fuel, left, right)


def tojson(fuel: Fuel, value: Any, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
    """JSON without Jinja2's HTML escaping, as transformers gives templates. An indented one is paid for as it grows."""
    options = {"ensure_ascii": ensure_ascii, "indent": indent, "separators": separators, "sort_keys": sort_keys}
    encoder = json.JSONEncoder(**options)
    if indent is None:
        return encoder.encode(value)
    pieces = []
    for piece in encoder.iterencode(value):
        fuel.spend(len(piece))
        pieces.append(piece)
    return "".join(pieces)


def moment(text: Any) -> str:
    """`strftime_now`: the local time now, written as the format says."""
    from datetime import datetime

    if not isinstance(text, str) or len(text) > 200 or re.search(r"%\D?\d", text):
        raise TemplateError("strftime_now takes a short format without widths")
    return datetime.now().strftime(text)
