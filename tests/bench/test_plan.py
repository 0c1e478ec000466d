"""Two processes hold what was planned for them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "plan.py"


@pytest.mark.proof
def test_two_processes_hold_what_was_planned():
    """Counted in pieces of memory: weights, gradients, Adam's means, and what the forward pass saved."""
    run = subprocess.run([sys.executable, str(SCRIPT), "--json"], stdout=subprocess.PIPE, check=True, timeout=300)
    told = json.loads(run.stdout)
    assert len(told["held"]) == 2
    for one in told["held"]:
        assert set(one) == {"ddp", "zero-3"}
        for strategy, held in one.items():
            planned = told["planned"][strategy]
            assert held == pytest.approx(planned, rel=0.15)
            assert sum(held.values()) == pytest.approx(sum(planned.values()), rel=0.15)
