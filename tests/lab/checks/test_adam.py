from __future__ import annotations

import pytest
import torch

from cutaway.lab.checks.adam import adam_oracle


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_it_is_torchs_adamw(decay):
    weight, gradients = torch.tensor([0.7], dtype=torch.float64, requires_grad=True), [0.3, -1.0, 2.0, 0.0, 1e-4]
    theirs = torch.optim.AdamW([weight], lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=decay)
    for gradient in gradients:
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        theirs.step()
    ours = adam_oracle(0.7, gradients, rate=0.1, betas=(0.8, 0.95), eps=1e-3, decay=decay)
    assert ours[0] == pytest.approx(float(weight.detach()), abs=1e-12)
