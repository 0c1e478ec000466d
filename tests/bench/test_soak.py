"""Ill-behaved clients for some seconds: the short form of bench/soak.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import cutaway

from ..serve.small import language

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "soak.py"


@pytest.mark.proof
def test_ill_behaved_clients_break_nothing(tmp_path):
    cutaway.save(language(tmp_path / "tokenizer"), tmp_path / "tiny")
    limits = ["--clients", "24", "--minutes", "0.25", "--running", "8", "--waiting", "8", "--json"]
    run = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "tiny"), *limits],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        timeout=300,
    )
    told = json.loads(run.stdout.splitlines()[-1])
    assert run.returncode == 0 and told["faults"] == 0, told
    assert told["answers compared"] > 20 and told["statuses"]["200"] > 20
    assert {"400", "413"} <= set(told["statuses"])
