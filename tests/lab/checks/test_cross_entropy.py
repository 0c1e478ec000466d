"""The checks find every deliberately wrong cross-entropy; that they pass the right ones is tested in tests/ops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cutaway.lab.checks.cross_entropy import check_cross_entropy


def right(x, weight, targets, *, bias_V=None, softcap=None, smoothing=0.0, z=0.0, ignore=-100, wrong="", weighed=1.0):
    scores = x if weight is None else F.linear(x, weight, None if wrong == "no bias" else bias_V)
    if wrong != "half":
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if softcap is not None and wrong != "no cap":
        scores = softcap * torch.tanh(scores / softcap)
    kept = targets != (-100 if wrong == "-100 alone" else ignore)
    scores, targets = scores[kept], targets[kept]
    lse = scores.exp().sum(-1).log() if wrong == "overflow" else torch.logsumexp(scores, -1)
    others = scores.shape[-1]
    told = F.one_hot(targets.clamp(min=0), others).to(scores.dtype) * (1 - smoothing) + smoothing / others
    if wrong == "spread over the others":
        told = torch.where(told > 0.5, 1 - smoothing, smoothing / (others - 1))
    loss = lse - (told * scores).sum(-1) + z * (lse if wrong == "z once" else lse**2)
    if wrong == "no gradient":
        loss = loss.detach() + 0 * scores.sum(-1)
    return loss.mean() if wrong == "mean" else loss.sum()


def test_the_template_is_right_until_something_is_changed():
    check_cross_entropy(right)


@pytest.mark.parametrize(
    "wrong",
    ["no bias", "half", "no cap", "-100 alone", "overflow", "spread over the others", "z once", "no gradient", "mean"],
)
def test_a_wrong_one_is_found(wrong):
    with pytest.raises(AssertionError):
        check_cross_entropy(lambda *given, **options: right(*given, **options, wrong=wrong))
