from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput, CutawayError
from cutaway.lab.compare.alone import ask

BODIES = {
    "doubling": "return {'twice': 2 * number, 'threads': __import__('os').environ['OMP_NUM_THREADS']}",
    "refusing": "raise BadInput('not this one', field='number')",
    "greedy": "raise MemoryError",
    "short": 'raise RuntimeError("DefaultCPUAllocator: can\'t allocate memory: you tried to allocate 9 bytes")',
    "broken": "raise RuntimeError('shapes do not fit')",
    "killed": "__import__('os').kill(__import__('os').getpid(), 9)",
}


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Asks a module with that body what it makes of 21."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def ask_one(name):
        lines = ["from cutaway.base.errors import BadInput", "from cutaway.lab.compare.alone import answer"]
        lines += ["def measure(number):", f"    {BODIES[name]}", "answer(measure)"]
        (tmp_path / f"{name}.py").write_text("\n".join(lines), encoding="utf-8")
        return ask(name, {"number": 21}, threads=3)

    return ask_one


def test_figures_come_back(told):
    assert told("doubling") == {"twice": 42, "threads": "3"}


@pytest.mark.parametrize("name", ["greedy", "short", "killed"])
def test_too_little_memory_is_a_finding(told, name):
    assert told(name) == {"failed": "not enough memory"}


def test_what_goes_wrong_is_said(told):
    with pytest.raises(BadInput, match="number: not this one"):
        told("refusing")
    with pytest.raises(CutawayError, match="broken failed: RuntimeError: shapes do not fit"):
        told("broken")
