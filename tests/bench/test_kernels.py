"""The comparison of kernels says where it cannot measure, and its every line runs in the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cutaway.ops.choice import interpreted, triton_lacks

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "kernels.py"


def run(*arguments: str, interpret: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"TRITON_INTERPRET": interpret}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=600)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it would measure")
def test_without_a_gpu_it_says_so_and_ends_with_one():
    done = run(interpret="0")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("nothing to measure: ") and done.stderr.count("\n") == 1


@pytest.mark.proof
@pytest.mark.skipif(not interpreted() or triton_lacks() is not None, reason="the kernels are not interpreted here")
def test_a_rehearsal_runs_every_way_and_claims_nothing(tmp_path):
    out = tmp_path / "kernels.md"
    done = run("--out", str(out), interpret="1")
    assert done.returncode == 0, done.stderr
    assert "its times say nothing" in done.stdout and out.read_text(encoding="utf-8") == done.stdout
    rows = [line.split("|") for line in done.stdout.splitlines() if "| triton |" in line]
    assert len(rows) == 4 and all(float(row[-2]) < 0.1 for row in rows)
