from __future__ import annotations

import platform

import pytest

from cutaway import __version__
from cutaway.base import versions


def test_what_decides_numbers_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(versions, "PACKAGES", ("pytest", "no-such-package"))
    found = versions.versions()
    assert found["cutaway"] == __version__ and found["python"] == platform.python_version()
    assert found["pytest"] == pytest.__version__ and found["no-such-package"] == "?"
