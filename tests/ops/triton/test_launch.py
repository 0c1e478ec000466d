from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="the extra triton is not installed")

import triton

from cutaway.base.errors import BadInput
from cutaway.ops.triton.launch import block, on_device


def test_sides_of_blocks_are_powers_of_two_from_sixteen_on():
    assert [block(size) for size in (1, 16, 17, 64, 96, 129)] == [16, 16, 32, 64, 128, 256]


def test_a_tensor_that_no_kernel_can_read_is_refused(monkeypatch):
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    with pytest.raises(BadInput, match="on cpu: kernels run on a GPU, or with TRITON_INTERPRET=1"):
        on_device(torch.zeros(1))


@pytest.mark.proof
@pytest.mark.parametrize("target", [("cuda", "80"), ("hip", "gfx942")], ids=str)
def test_every_kernel_compiles_for_a_gpu_that_is_not_here(target, tmp_path):
    """To machine code, with products on matrix units and no more shared memory than the smallest GPUs have."""
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, str(Path(__file__).with_name("compiling.py")), *target]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 8
    for name, what in found.items():
        assert what["shared"] <= 64 * 1024, name  # what an MI300 has; an A100 has 163 KiB
        assert what["matrix_units"] == (not name.startswith("norm_rotate")), name
