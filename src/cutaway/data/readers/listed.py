"""A JSON file that is one list: of texts, or of objects with the document in one of their fields.

Unlike JSON lines it has to be read whole, so its size is bounded.   Read next: data/readers/sources.py
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.data.entry import Entry
from cutaway.data.readers.stream import not_utf8, opened, text_of

MOST = 256 * 2**20  # bytes; Python's values take several times as many


def is_list(path: Path) -> bool:
    """Whether the first thing in a file is a list. Raises as `opened` does."""
    with opened(path) as stream:
        return stream.read(4096).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


def read(path: Path, *, field: str = "text") -> Iterator[Entry]:
    """Each item of the list; those that are objects give `field`. Raises BadInput with the item that is wrong."""
    with opened(path) as stream:
        raw = stream.read(MOST + 1)
    if len(raw) > MOST:
        raise BadInput(f"a list of more than {MOST >> 20} MB; write it as JSON lines", source=path)
    try:
        items = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise not_utf8(path, error.start, error) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not JSON: {error}", source=path) from error
    for number, item in enumerate(items, start=1):
        yield Entry(_text(item, path, f"item {number}", field), str(path), number)


def _text(item: object, path: Path, where: str, field: str) -> str:
    if isinstance(item, dict):
        if field not in item:
            raise BadInput(f'no field "{field}"{did_you_mean(field, item)}', source=path, field=where)
        item, where = item[field], f"{where}: {field}"
    return text_of(item, path, where)
