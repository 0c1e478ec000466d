"""A small text, and trainings that take no time."""

from __future__ import annotations

import pytest

from cutaway.lab.compare.training import Setting


@pytest.fixture(scope="session")
def moment(tmp_path_factory):
    """A setting of a few steps over a few lines."""
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("".join(f"the cat sat on {n * 37 % 100} mats.\n" for n in range(400)), encoding="utf-8")
    return Setting(corpus=str(path), dim=16, layers=2, heads=2, length=16, rows=2, steps=2, windows=4, seeds=1)
