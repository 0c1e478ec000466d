from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cutaway.base.errors import BadInput
from cutaway.cli import threads


def context_with(**meta: Any) -> Any:
    return SimpleNamespace(meta=dict(meta))


def test_torch_gets_the_number(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.delenv("CUTAWAY_THREADS", raising=False)
    before = torch.get_num_threads()
    try:
        context = context_with()
        threads.keep(context, 1)
        threads.apply(context)
        assert torch.get_num_threads() == 1
        threads.apply(context_with())  # nothing asked for: nothing changes
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "two", "1025", "9" * 5000])
def test_what_is_no_number_of_threads_is_refused(monkeypatch, text):
    monkeypatch.setenv("CUTAWAY_THREADS", text)
    with pytest.raises(BadInput, match="CUTAWAY_THREADS"):
        threads.wanted(context_with())


@pytest.mark.parametrize(
    ("busy", "environment", "imported", "policy"),
    [
        (True, {}, False, "passive"),
        (False, {}, False, None),
        (True, {"OMP_WAIT_POLICY": "active"}, False, "active"),
        (True, {"GOMP_SPINCOUNT": "7"}, False, None),
        (True, {}, True, None),  # too late: the library has read its environment
    ],
)
def test_threads_sleep_on_a_busy_machine(monkeypatch, busy, environment, imported, policy):
    monkeypatch.setattr(threads, "os", SimpleNamespace(environ=environment))
    monkeypatch.setattr(threads, "busy", lambda: busy)
    monkeypatch.setattr(threads, "sys", SimpleNamespace(modules={"torch": None} if imported else {}))
    threads.yield_when_busy()
    assert environment.get("OMP_WAIT_POLICY") == policy
