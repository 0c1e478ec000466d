from __future__ import annotations

import torch

from cutaway.data.batch import IGNORE
from cutaway.train.loss import Loss, asked


def test_sums_are_one_detached_vector_in_float64():
    total = torch.tensor(3.0, requires_grad=True) * 2
    loss = Loss(total=total, count=4, metrics={"hits": torch.tensor(3)})
    assert loss.sums().tolist() == [6.0, 4.0, 3.0]
    assert loss.sums().dtype == torch.float64 and not loss.sums().requires_grad
    assert Loss(total=total, count=torch.tensor(4)).sums().tolist() == [6.0, 4.0]


def test_asked_counts_targets_and_waits_for_no_other_device():
    targets_N = torch.tensor([1, IGNORE, 0, IGNORE])
    assert asked(targets_N) == 2 and isinstance(asked(targets_N), int)
    assert isinstance(asked(targets_N.to("meta")), torch.Tensor)
