"""The checks find every deliberately wrong batch norm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cutaway.base.errors import BadInput
from cutaway.lab.checks.batch_norm import check_batch_norm


class Norm(nn.Module):
    """Right as it stands; each keyword breaks it in one way."""

    def __init__(self, dim, eps, momentum, **wrong):
        super().__init__()
        self.eps, self.momentum, self.wrong = eps, momentum, wrong
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_variance", torch.ones(dim))

    def forward(self, x):
        wrong = self.wrong
        if self.training and x.shape[0] < 2 and "lets one row pass" not in wrong:
            raise BadInput("too few rows")
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        axis = 1 if "over features" in wrong else 0
        if self.training or "never evaluates" in wrong:
            mean = wide.mean(axis, keepdim=True)
            variance = wide.var(axis, correction="unbiased" in wrong, keepdim=True)
            self._collect(wide)
            if "no gradient through statistics" in wrong:
                mean, variance = mean.detach(), variance.detach()
        else:
            mean, variance = self.running_mean, self.running_variance
            if "evaluation collects" in wrong and x.shape[0] > 1:
                self._collect(wide)
        eps = 0.0 if "no eps" in wrong else self.eps
        return ((wide - mean) / (variance + eps).sqrt() * self.weight + self.bias).to(x.dtype)

    def _collect(self, x):
        momentum = 1 - self.momentum if "momentum the other way" in self.wrong else self.momentum
        variance = x.var(0, correction="biased running variance" not in self.wrong)
        if "keeps graphs" in self.wrong:
            self.running_mean = self.running_mean + momentum * (x.mean(0) - self.running_mean)
        else:
            self.running_mean.lerp_(x.detach().mean(0).to(self.running_mean.dtype), momentum)
        self.running_variance.lerp_(variance.detach().to(self.running_variance.dtype), momentum)


class Maker:
    def __init__(self, **wrong):
        self.wrong = wrong

    def __call__(self, *, eps, momentum):
        self.eps, self.momentum = eps, momentum
        return self

    def build(self, dim):
        return Norm(dim, self.eps, self.momentum, **self.wrong)


def test_the_template_is_right_until_something_is_changed():
    check_batch_norm(Maker())


@pytest.mark.parametrize(
    "wrong",
    [
        "lets one row pass",
        "over features",
        "never evaluates",
        "unbiased",
        "biased running variance",
        "no gradient through statistics",
        "evaluation collects",
        "no eps",
        "momentum the other way",
        "keeps graphs",
    ],
)
@pytest.mark.filterwarnings("ignore:var")  # torch warns where one row has no unbiased variance
def test_a_wrong_batch_norm_is_found(wrong):
    with pytest.raises(AssertionError):
        check_batch_norm(Maker(**{wrong: True}))
