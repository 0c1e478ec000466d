"""What a folder of figures was made of and with: its card, and versions of Cutaway, Python and the packages that decide
numbers.

Read next: train/run.py
"""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cutaway import __version__
from cutaway.base.errors import BadInput

PACKAGES = ("torch", "numpy", "safetensors", "tokenizers")


def versions() -> dict[str, str]:
    """By name, `system` among them; "?" for a package that was taken from a folder on the path."""
    found = {"cutaway": __version__, "python": platform.python_version(), "system": sys.platform}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "?"
    return found


def read_card(folder: Path, name: str, *, what: str, field: str, latest: int) -> dict[str, Any]:
    """The card of a `what` ("run") in a folder: JSON of a `format` up to `latest`, with a mapping in `field`.

    Raises BadInput where there is none, or one that a later version wrote.
    """
    path = folder / name
    if not path.is_file():
        raise BadInput(f"holds no {what} (no {name})", source=folder)
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise BadInput(f"cannot be read: {error}", source=path) from error
    if not isinstance(card, dict) or not isinstance(card.get(field), dict):
        raise BadInput(f"must hold a {field}", source=path, field=field)
    if not isinstance(card.get("format"), int) or card["format"] > latest:
        raise BadInput("was written by a later version of Cutaway", source=path, field="format")
    return card
