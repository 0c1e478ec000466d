from __future__ import annotations

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
