"""The check of latent attention catches what is wrong in it, and its two forms can be told apart where they differ."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutaway.lab.checks.latent import CASES, check_forms, check_latent, drawn, shapes
from cutaway.nn.context import Context


def run(spec, weights, x_ND, lengths):
    module = spec.build(x_ND.shape[1])
    return torch.func.functional_call(module, weights, (x_ND, Context.of(lengths)))[0]


def wrong_scale(spec, weights, x_ND, lengths):
    return run(replace(spec, scale=(spec.head_dim + spec.rope.width) ** -0.5), weights, x_ND, lengths)


def wrong_pairs(spec, weights, x_ND, lengths):
    rope = replace(spec.rope, interleaved=not spec.rope.interleaved)
    return run(replace(spec, rope=rope), weights, x_ND, lengths)


def wrong_boundaries(spec, weights, x_ND, lengths):
    return run(spec, weights, x_ND, (sum(lengths),))


def norm_forgotten(spec, weights, x_ND, lengths):
    return run(spec, {**weights, "norm.weight": torch.ones_like(weights["norm.weight"])}, x_ND, lengths)


def cut_gradient(spec, weights, x_ND, lengths):
    return run(spec, {**weights, "up.weight": weights["up.weight"].detach()}, x_ND, lengths)


@pytest.mark.parametrize("wrong", [wrong_scale, wrong_pairs, wrong_boundaries, norm_forgotten, cut_gradient])
def test_the_check_catches_what_is_wrong(wrong):
    with pytest.raises(AssertionError, match=r"output|gradient"):
        check_latent(wrong)


def test_forms_that_differ_are_told_apart():
    assert check_forms(run, run) == 0.0
    with pytest.raises(AssertionError, match="output"):
        check_forms(run, wrong_scale)


def test_the_weights_are_those_of_the_module():
    for spec, _ in CASES:
        module = spec.build(4)
        assert {name: tuple(weight.shape) for name, weight in module.named_parameters()} == shapes(spec, 4)
        assert {name: weight.shape for name, weight in drawn(spec, 4).items()} == shapes(spec, 4)
