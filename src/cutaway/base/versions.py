"""What a folder of figures was made with: versions of Cutaway, of Python, and of the packages that decide numbers.

Read next: train/run.py
"""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from cutaway import __version__

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
