"""The checks find every deliberately wrong norm; that they pass the right ones is tested in tests/ops/test_norm.py."""

from __future__ import annotations

import pytest
import torch

from cutaway.lab.checks.norm import check_layer_norm, check_rms_norm


def rms(x, weight, *, eps, offset=0.0, axis=-1, mean=True, inside=True, widen=True, flow=True):
    wide = x.float() if widen and x.dtype in (torch.bfloat16, torch.float16) else x
    square = wide.pow(2).mean(axis, keepdim=True) if mean else wide.pow(2).sum(axis, keepdim=True)
    size = (square + eps).sqrt() if inside else square.sqrt() + eps
    return (wide / (size if flow else size.detach()) * (weight + offset)).to(x.dtype)


def layer(x, weight, bias, *, eps, unbiased=False, centre=True, axis=-1):
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    centred = wide - wide.mean(axis, keepdim=True)
    variance = centred.pow(2).mean(axis, keepdim=True)
    if unbiased:
        variance = variance * x.shape[-1] / (x.shape[-1] - 1)
    y = (centred if centre else wide) / (variance + eps).sqrt() * weight
    return (y if bias is None else y + bias).to(x.dtype)


def test_the_templates_below_are_right_until_something_is_changed():
    check_rms_norm(rms)
    check_layer_norm(layer)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, w, *, eps, offset=0.0: rms(x, w, eps=0.0, offset=offset),
        lambda x, w, *, eps, offset=0.0: rms(x, w, eps=eps, offset=offset, inside=False),
        lambda x, w, *, eps, offset=0.0: rms(x, w, eps=eps, offset=offset, mean=False),
        lambda x, w, *, eps, offset=0.0: rms(x, w, eps=eps, offset=offset, axis=0),
        lambda x, w, *, eps, offset=0.0: rms(x, w, eps=eps),
        lambda x, w, *, eps, offset=0.0: rms(x, w, eps=eps, offset=1.0),
        lambda x, w, *, eps, offset=0.0: rms(x - x.mean(-1, keepdim=True), w, eps=eps, offset=offset),
        lambda x, w, *, eps, offset=0.0: rms(x, w, eps=eps, offset=offset, widen=False),
        lambda x, w, *, eps, offset=0.0: rms(x, w, eps=eps, offset=offset).float(),
        lambda x, w, *, eps, offset=0.0: rms(x, w, eps=eps, offset=offset).double(),
        lambda x, w, *, eps, offset=0.0: rms(x, w.detach(), eps=eps, offset=offset),
        lambda x, w, *, eps, offset=0.0: rms(x, w, eps=eps, offset=offset, flow=False),
        lambda x, w, *, eps, offset=0.0: rms(x, w, eps=eps, offset=offset).nan_to_num(),
        lambda x, w, *, eps, offset=0.0: rms(x, w, eps=eps, offset=offset) + 0 * x.sum(),
    ],
    ids=[
        "no eps",
        "eps outside the root",
        "sum for mean",
        "over tokens",
        "no offset",
        "always 1 + weight",
        "centred",
        "squares in half precision",
        "result in float32",
        "result in float64",
        "weight has no gradient",
        "scale has no gradient",
        "NaN hidden",
        "NaN spreads",
    ],
)
def test_a_wrong_rms_norm_is_found(wrong):
    with pytest.raises(AssertionError):
        check_rms_norm(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, w, b, *, eps: layer(x, w, b, eps=0.0),
        lambda x, w, b, *, eps: layer(x, w, b, eps=eps, unbiased=x.shape[-1] > 1),
        lambda x, w, b, *, eps: layer(x, w, b, eps=eps, centre=False),
        lambda x, w, b, *, eps: layer(x, w, b, eps=eps, axis=0),
        lambda x, w, b, *, eps: layer(x, w, None, eps=eps),
        lambda x, w, b, *, eps: layer(x, 1 + w, b, eps=eps),
        lambda x, w, b, *, eps: layer(x, torch.ones_like(w), b, eps=eps) * w,
        lambda x, w, b, *, eps: layer(x, w, b, eps=eps).nan_to_num(),
    ],
    ids=["no eps", "unbiased", "not centred", "over tokens", "no bias", "1 + weight", "bias weighted", "NaN hidden"],
)
def test_a_wrong_layer_norm_is_found(wrong):
    with pytest.raises(AssertionError):
        check_layer_norm(wrong)
