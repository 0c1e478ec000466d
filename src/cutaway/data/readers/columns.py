"""Parquet files, and the Arrow files in which the `datasets` library keeps its data: the document in one column.

A few thousand rows are in memory at a time.   Read next: data/readers/hub.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cutaway.base.errors import BadInput, MissingExtra, NotFound
from cutaway.base.names import did_you_mean
from cutaway.data.entry import Entry
from cutaway.data.readers.stream import text_of

ROWS = 4096


def read(path: Path, *, field: str = "text") -> Iterator[Entry]:
    """The texts in column `field`; empty cells (null) are passed over. Needs the package pyarrow."""
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtra("pyarrow", "data") from error
    if not path.is_file():
        raise NotFound(f"{path}: there is no such file")
    row = 0
    try:
        for column in _arrow(path, field) if path.suffix.lower() == ".arrow" else _parquet(path, field):
            for text in _cells(column):
                row += 1
                if text is not None:
                    yield Entry(text_of(text, path, f"row {row}: {field}"), str(path), row)
    except UnicodeDecodeError as error:
        raise BadInput(f"not UTF-8 ({error.reason})", source=path, field=f"row {row + 1}: {field}") from error
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(f"damaged, or no such file: {' '.join(str(error).split())}", source=path) from error


def _cells(column: Any) -> Iterator[Any]:
    """The values of an Arrow array. Arrow takes any bytes for text: those that are none raise at their own place."""
    try:
        values = column.to_pylist()
    except UnicodeDecodeError:
        values = (cell.as_py() for cell in column)
    yield from values


def _parquet(path: Path, field: str) -> Iterator[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        _check_column(file.schema_arrow, field, path)
        for batch in file.iter_batches(batch_size=ROWS, columns=[field]):
            yield batch.column(0)


def _arrow(path: Path, field: str) -> Iterator[Any]:
    import pyarrow

    with pyarrow.memory_map(str(path)) as source:
        try:
            stream = pyarrow.ipc.open_stream(source)
        except pyarrow.ArrowInvalid:  # the other of Arrow's two forms
            file = pyarrow.ipc.open_file(source)
            _check_column(file.schema, field, path)
            for number in range(file.num_record_batches):
                yield file.get_batch(number).column(field)
            return
        _check_column(stream.schema, field, path)
        for batch in stream:
            yield batch.column(field)


def _check_column(schema: Any, field: str, path: Path) -> None:
    if field not in schema.names:
        raise BadInput(f'no column "{field}"{did_you_mean(field, schema.names)}', source=path)
