from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cutaway.lab.checks.mixer import check_mixer
from cutaway.nn.attention.short_convolution import ShortConvolution, streams
from cutaway.nn.context import Context


class Alone(torch.nn.Module):
    """As a mixer, which reports something too."""

    def __init__(self, kernel):
        super().__init__()
        self.convolution = ShortConvolution(6, kernel)

    def forward(self, x_ND, context):
        return self.convolution(x_ND, context), {}


@pytest.mark.parametrize("kernel", [1, 2, 4, 7])
def test_it_keeps_every_law(kernel):
    check_mixer(Alone(kernel), streams(6, kernel), 6)


@pytest.mark.parametrize("kernel", [1, 3, 4])
def test_twin_of_torch(kernel):
    """Padded in front by as many zeros; float64 sums of a few terms."""
    module, lengths = ShortConvolution(6, kernel).double(), (9, 2, 2, 1)
    x_NC = torch.randn(sum(lengths), 6, dtype=torch.float64)
    rows = []
    for x_TC in x_NC.split(lengths):
        padded = F.pad(x_TC.t()[None], (kernel - 1, 0))
        rows.append(F.conv1d(padded, module.weight, groups=6)[0].t())
    torch.testing.assert_close(module(x_NC, Context.of(lengths)), torch.cat(rows), atol=1e-13, rtol=0)


def test_it_keeps_the_tokens_before_the_next():
    assert [stream.shape for stream in streams(6, 4)] == [(3, 6)] and streams(6, 1) == ()
