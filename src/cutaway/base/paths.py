"""Where Cutaway keeps things, and how it writes a file so that nobody ever meets half of one.

Read next: base/values.py
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs


def home() -> Path:
    """The folder for models and other large things: CUTAWAY_HOME, or else the user's cache folder on this system.

    It is not made here; whoever writes into it makes what it needs (`atomic` does).
    """
    chosen = os.environ.get("CUTAWAY_HOME", "").strip()
    return expand(chosen).absolute() if chosen else Path(platformdirs.user_cache_dir("cutaway", False))


def expand(path: str | os.PathLike[str]) -> Path:
    """`path` with a leading `~` read as a home folder; as it is where that user is not known, as a shell does."""
    path = Path(path)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it over `path` on success, remove it on any failure, Ctrl-C included.

    The caller writes a file or makes a folder at the yielded path, which keeps the suffix of `path`. A file replaces a
    file in one step. A folder replaces a folder in two (no system swaps full folders at once), the old one kept until
    the new one stands. Raises FileNotFoundError if the caller wrote nothing. An OSError names `path`.
    """
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(4)  # two processes that write one file must not share a temporary one
    partial = path.with_name(f".{path.stem}-{token}.partial{path.suffix}")
    try:
        yield partial
        if partial.is_dir() and path.is_dir():
            _replace_folder(partial, path, path.with_name(f".{path.name}-{token}.old"))
        else:
            partial.replace(path)
    except BaseException as error:
        _remove(partial)
        if isinstance(error, OSError) and str(error.filename) == str(partial):
            error.filename = str(path)  # nobody asked for the temporary one
        raise


def _replace_folder(new: Path, place: Path, aside: Path) -> None:
    place.rename(aside)
    try:
        new.rename(place)
    except BaseException:
        aside.rename(place)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
