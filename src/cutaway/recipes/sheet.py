"""Pairs of texts from a sheet: a line a pair, its columns set apart by tabs, packed by gzip or not.

Read next: recipes/transduce.py
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass

from cutaway.base.errors import BadInput, NotFound
from cutaway.base.paths import expand
from cutaway.recipes.invented import Pair


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """`path`: the file. `source`, `target`: the numbers of their columns, from 0. Pairs with a side longer than
    `longest` characters are left out. A pair belongs to the validation part by what its source hashes to."""

    path: str
    source: int = 0
    target: int = 1
    longest: int = 100
    validation: float = 0.02

    def __post_init__(self) -> None:
        if min(self.source, self.target) < 0 or self.longest < 1 or not 0.0 < self.validation < 1.0:
            raise BadInput("columns count from 0, longest from 1, validation is a share", field="Sheet")

    def read(self) -> tuple[list[Pair], list[Pair]]:
        """(training, validation). Raises NotFound, and BadInput naming the line that lacks a column."""
        parts: tuple[list[Pair], list[Pair]] = ([], [])
        for number, line in enumerate(self._text().split("\n"), start=1):
            columns = line.split("\t")
            if not line.strip():
                continue
            if len(columns) <= max(self.source, self.target):
                raise BadInput(f"has {len(columns)} columns", source=self.path, field=f"line {number}")
            pair = columns[self.source].strip(), columns[self.target].strip()
            if all(pair) and max(map(len, pair)) <= self.longest:
                mark = int.from_bytes(hashlib.blake2b(pair[0].encode("utf-8"), digest_size=8).digest(), "big")
                parts[mark < self.validation * 2**64].append(pair)
        if not all(parts):
            raise BadInput("has too few pairs to train on some and keep some apart", source=self.path)
        return parts

    def _text(self) -> str:
        path = expand(self.path)
        if not path.is_file():
            raise NotFound(f"{path}: there is no such file")
        data = path.read_bytes()
        try:
            data = gzip.decompress(data) if path.suffix == ".gz" else data
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadInput(f"is no UTF-8 text: byte {error.start}", source=path) from error
        except (OSError, EOFError, zlib.error) as error:
            raise BadInput(f"is no whole gzip file: {error}", source=path) from error
