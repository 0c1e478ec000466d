from __future__ import annotations

import sys

import pytest

from cutaway.base.errors import MissingExtra
from cutaway.train.events import Events


def test_numbers_are_written_at_their_steps(tmp_path):
    pytest.importorskip("tensorboardX")
    events = Events(tmp_path)
    events.add({"step": 3, "loss": 1.5, "guard": ["skipped"], "nothing": None, "flag": True})
    events.close()
    (file,) = tmp_path.iterdir()
    data = file.read_bytes()
    assert b"loss" in data and b"guard" not in data and b"flag" not in data and b"step" not in data


def test_without_the_package_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingExtra, match=r"cutaway\[tensorboard\]"):
        Events(tmp_path)
