"""JSON lines: an object a line, the document in one of its fields.

Lines end at \\n alone: `str.splitlines` would also break at U+2028, which JSON allows inside of a text.
Read next: data/readers/columns.py
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.data.entry import Entry
from cutaway.data.readers.stream import not_utf8, opened, refuse_wide, text_of


def read(path: Path, *, field: str = "text") -> Iterator[Entry]:
    """The text in `field` of each line. Blank lines are passed over. Raises BadInput with the line of what is wrong."""
    with opened(path) as stream:
        read = 0
        for line, raw in enumerate(stream, start=1):
            if line == 1:
                refuse_wide(raw, path)
            start, read = read, read + len(raw)
            if line == 1:
                raw = raw.removeprefix(codecs.BOM_UTF8)
            if raw.strip():
                yield Entry(_text(raw, path, line, start, field), str(path), line)


def _text(raw: bytes, path: Path, line: int, start: int, field: str) -> str:
    where = f"line {line}"
    try:
        value = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise not_utf8(path, start + error.start, error, where) from error
    except (ValueError, RecursionError) as error:
        hint = "; a list over several lines is no JSONL" if raw.strip() == b"[" else ""
        raise BadInput(f"not JSON: {error}{hint}", source=path, field=where) from error
    if not isinstance(value, dict):
        raise BadInput(f"expected an object, not a {type(value).__name__}", source=path, field=where)
    if field not in value:
        raise BadInput(f'no field "{field}"{did_you_mean(field, value)}', source=path, field=where)
    return text_of(value[field], path, f"{where}: {field}")
