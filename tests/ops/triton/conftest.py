"""Without the extra there is nothing to prove here, and the proofs say so. The device; kernels with a fault."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch

from cutaway.ops.choice import interpreted, triton_lacks

DEVICE = "cpu" if interpreted() else "cuda"


def pytest_collection_modifyitems(items):
    error = triton_lacks()
    if error is None:
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=f"the kernels cannot run here: {error}"))


@pytest.fixture
def device():
    return torch.device(DEVICE)


@pytest.fixture
def spoilt(tmp_path, monkeypatch):
    """`spoilt(file, right, wrong)` is a copy of ops/triton in which one line of one file is wrong, as a package."""

    def copy(file: str, right: str, wrong: str):
        source = Path(importlib.import_module("cutaway.ops.triton").__file__).parent
        name = f"spoilt_{abs(hash((file, right, wrong)))}"
        (tmp_path / name).mkdir()
        for path in source.glob("*.py"):
            text = path.read_text(encoding="utf-8")
            if path.stem == file:
                assert right in text, f"{file}.py has no {right!r}"
                text = text.replace(right, wrong)
            text = re.sub(r"cutaway\.ops\.triton\b", name, text)
            (tmp_path / name / path.name).write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        made.append(name)
        return lambda module: importlib.import_module(f"{name}.{module}")

    made: list[str] = []
    yield copy
    for module in [module for module in sys.modules if module.partition(".")[0] in made]:
        del sys.modules[module]
