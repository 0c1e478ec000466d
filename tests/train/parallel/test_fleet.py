"""Layouts and the start: what is wrong is said before anything waits for anyone."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.train.parallel.fleet import Layout, start


def places(fleet, folder):
    at = {axis: fleet.place(axis) for axis in ("data", "tensor", "pipeline")}
    own = torch.tensor([1.0 + at["data"], float(at["tensor"])], dtype=torch.float64)
    return {"at": at, "size": fleet.size, "sum": fleet.sum(own), "own": own}


def test_a_layout_of_two_axes(processes):
    results = processes(__file__, places, data=2)
    assert [one["at"]["data"] for one in results] == [0, 1]
    assert all(one["size"] == 2 for one in results)
    for place, one in enumerate(results):
        assert one["sum"].tolist() == [3.0, 0.0]
        assert one["own"].tolist() == [1.0 + place, 0.0]  # what was handed in stays as it was


def test_outside_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(BadInput, match="start this with torchrun"):
        start()


def test_fewer_processes_than_the_layout_needs(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match="pipeline 1 x data 4 x tensor 2 needs 8 processes, there are 2"):
        start(Layout(data=4, tensor=2))


SCRIPT = """
import sys
from pathlib import Path
from cutaway.train.parallel.fleet import start
fleet = start()
Path(sys.argv[1], str(fleet.place("data"))).write_text(str(fleet.size), encoding="utf-8")
fleet.close()
"""


@pytest.mark.proof
def test_under_torchrun(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, str(script), str(tmp_path)], check=True, timeout=300)
    assert [(tmp_path / name).read_text(encoding="utf-8") for name in "01"] == ["2", "2"]
