"""Functions run by several processes that talk over gloo; no process outlives its test, however that ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

LIMIT = 300  # seconds, on a very busy machine; a fault ends the others at once


@pytest.fixture(scope="session")
def processes(tmp_path_factory):
    """`processes(FILE, function, layout...)`: what `function(fleet, folder)` of that file returned, by rank."""

    def run(file: str, function, **layout: int) -> list:
        folder, count = tmp_path_factory.mktemp("processes"), 1
        for along in layout.values():
            count *= along
        command = [sys.executable, "-W", "error::UserWarning", str(Path(__file__).with_name("launch.py"))]
        command += [file, function.__name__, str(folder), json.dumps(layout)]
        started, logs = [], []
        try:
            for rank in range(count):
                told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "OMP_NUM_THREADS": 1}
                log = (folder / f"{rank}.log").open("w", encoding="utf-8")
                logs.append(log)
                environment = {**os.environ, **{name: str(value) for name, value in told.items()}}
                started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            end = time.monotonic() + LIMIT
            while time.monotonic() < end and any(one.poll() is None for one in started):
                if any(one.poll() for one in started):  # one has failed: the others would wait for it
                    break
                time.sleep(0.05)
        finally:
            for one in started:
                if one.poll() is None:
                    one.kill()
                one.wait()
            for log in logs:
                log.close()
        told = "\n".join(f"{rank}: {(folder / f'{rank}.log').read_text(encoding='utf-8')}" for rank in range(count))
        assert all(one.returncode == 0 for one in started), told
        return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(count)]

    return run
