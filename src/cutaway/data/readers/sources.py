"""Whatever was named, as a stream of documents: files by their ending, folders, data sets of the hub.

Nothing is held but the document at hand.   Read next: data/readers/plain.py, data/cleaning.py
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cutaway.base.errors import BadInput, NotFound
from cutaway.base.paths import expand
from cutaway.data.entry import Entry
from cutaway.data.readers import columns, hub, jsonl, listed, plain

TEXTS = (".txt", ".md", ".text", ".markdown")
LINES = (".jsonl", ".ndjson")
NAMED = (".json", ".json.gz")  # a list or JSON lines where it is named outright; in a folder mostly something else
COLUMNS = (".parquet", ".arrow")


def read(sources: Iterable[str | Path], *, field: str = "text", separator: str | None = None) -> Iterator[Entry]:
    """All documents of all sources, in order. `field` is for JSON lines and columns, `separator` for plain text.

    Raises NotFound for what is not there; BadInput, naming file and line, for what cannot be read, and if there is no
    document at all.
    """
    names, count = [str(source) for source in sources], 0
    for name in names:
        if name.startswith(hub.PREFIX):
            streams: Iterable[Iterator[Entry]] = [hub.read(name, field=field)]
        else:
            streams = (_reader(path)(field, separator) for path in files(name))
        for stream in streams:
            for entry in stream:
                count += 1
                yield entry
    if not count:
        raise BadInput("the corpus is empty: no document in it", source=", ".join(names) or "corpus")


def files(source: str | Path) -> list[Path]:
    """The files of one source: itself, or of a folder all that can be read, in the order of their names."""
    path = expand(source)
    if not path.exists():
        raise NotFound(f"{path}: there is no such file or folder")
    if path.is_file():
        return [path]
    found = [one for one in path.rglob("*") if one.is_file() and not _hidden(one.relative_to(path)) and ending(one)]
    if not found:
        known = " ".join((*TEXTS, *LINES, *COLUMNS))
        raise BadInput(f"this folder has no file that can be read ({known}, or one of them with .gz)", source=path)
    return sorted(found, key=lambda one: one.relative_to(path).parts)


def ending(path: Path) -> str:
    """The ending by which a file is read, less .gz; "" for one that is not known."""
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    return suffix.lower() if suffix.lower() in (*TEXTS, *LINES, *COLUMNS) else ""


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _reader(path: Path) -> Any:
    kind = ending(path)
    if path.name.endswith(NAMED) and listed.is_list(path):
        return lambda field, separator: listed.read(path, field=field)
    if kind in LINES or path.name.endswith(NAMED):
        return lambda field, separator: jsonl.read(path, field=field)
    if kind in COLUMNS:
        return lambda field, separator: columns.read(path, field=field)
    return lambda field, separator: plain.read(path, separator=separator)  # named outright: text, or refused by plain
