"""What can go wrong, said so that a person can act on it."""

from __future__ import annotations

from pathlib import Path


class CutawayError(Exception):
    """Any error that Cutaway raises on purpose; its text is one clear line for a person."""


class BadInput(CutawayError, ValueError):
    """Something handed to us is wrong. The command line prints it as one line and exits with code 2.

    `source` is the file (or the option) it came in, `field` the place inside it.
    """

    def __init__(self, message: str, *, source: str | Path | None = None, field: str | None = None):
        self.message, self.source, self.field = message, source, field
        where = ": ".join(str(part) for part in (source, field) if part is not None)
        super().__init__(f"{where}: {message}" if where else message)


class MissingExtra(CutawayError, ImportError):
    """An optional package is absent. `extra` is what to install: `pip install "cutaway[extra]"`."""

    def __init__(self, package: str, extra: str):
        self.package, self.extra = package, extra
        super().__init__(f'this needs the package {package}: pip install "cutaway[{extra}]"')


class NotFound(CutawayError):
    """A model, file or package that was asked for is not there (offline, unknown name, unreachable registry)."""
