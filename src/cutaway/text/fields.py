"""Reads a GGUF file's metadata by key and type: what is missing or of another type is a BadInput that names the key.

Read next: text/gguf_vocab.py
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from cutaway.base.errors import BadInput


class Fields:
    """Typed look-ups in `metadata`; arrays may be lists, tuples or numpy arrays."""

    def __init__(self, metadata: Mapping[str, Any], source: str | Path | None = None):
        self.metadata, self.source = metadata, source

    def bad(self, message: str, key: str) -> BadInput:
        return BadInput(message, source=self.source, field=key)

    def text(self, key: str, default: str | None = None) -> str:
        value = self.metadata.get(key, default)
        if value is None:
            raise self.bad("is missing", key)
        if not isinstance(value, str):
            raise self.bad(f"must be a text, not a {type(value).__name__}", key)
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.metadata.get(key, default)
        if type(value).__name__ not in ("bool", "bool_"):
            raise self.bad(f"must be true or false, not a {type(value).__name__}", key)
        return bool(value)

    def token(self, key: str, size: int) -> int | None:
        """A token's id, in [0, size), or None where the key is missing."""
        value = self.metadata.get(key)
        if value is None:
            return None
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise self.bad(f"must be an integer, not a {type(value).__name__}", key)
        if not 0 <= int(value) < size:
            raise self.bad(f"token {int(value)} of a vocabulary of {size}", key)
        return int(value)

    def texts(self, key: str) -> list[str]:
        values = self._array(key)
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise self.bad(f"must be a list of texts; item {index} is a {type(value).__name__}", key)
        return values

    def numbers(self, key: str, size: int, *, whole: bool = False) -> list[Any]:
        values = self._array(key)
        if len(values) != size:
            raise self.bad(f"has {len(values)} items for {size} tokens", key)
        wanted = Integral if whole else Real
        for index, value in enumerate(values):
            if not isinstance(value, wanted) or not math.isfinite(value):
                kind = "whole" if whole else "finite"
                raise self.bad(f"must be a list of {kind} numbers; item {index} is {value!r}", key)
        return values

    def _array(self, key: str) -> list[Any]:
        values = self.metadata.get(key)
        if values is None:
            raise self.bad("is missing", key)
        values = values.tolist() if hasattr(values, "tolist") else values
        if not isinstance(values, (list, tuple)):
            raise self.bad(f"must be a list, not a {type(values).__name__}", key)
        return list(values)
