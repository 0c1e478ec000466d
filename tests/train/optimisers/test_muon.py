"""Muon against torch.optim and the singular value decomposition; what it moves and what it leaves to AdamW."""

from __future__ import annotations

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.optimisers.descent import Pace
from cutaway.train.optimisers.muon import Muon, muon, orthogonal


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
@pytest.mark.parametrize(("scale", "theirs_scale"), [("jordan", "original"), ("moonlight", "match_rms_adamw")])
@pytest.mark.parametrize("nesterov", [True, False])
def test_it_steps_as_torch_does(scale, theirs_scale, nesterov, toy, walk, near, split):
    ours, theirs = toy(torch.float32), toy(torch.float32)
    rest = AdamW(rate=0.01, betas=(0.9, 0.99), decay=0.1)
    walk(ours, Muon(rate=0.01, decay=0.3, nesterov=nesterov, scale=scale, rest=rest).build(ours), 6)
    hidden, vectors = split(theirs)

    class Both:
        muon = torch.optim.Muon(hidden, lr=0.01, weight_decay=0.3, nesterov=nesterov, adjust_lr_fn=theirs_scale)
        adamw = torch.optim.AdamW(vectors, lr=0.01, betas=(0.9, 0.99), weight_decay=0.0)

        def step(self):
            self.muon.step()
            self.adamw.step()

    walk(theirs, Both(), 6)
    # Both turn in bfloat16 (8 bits), in products of another order: 6 steps of 0.01, each right to about 1%.
    near(ours, theirs, 0.0, atol=2e-3)


@pytest.mark.parametrize("shape", [(8, 8), (16, 4), (4, 16)])
def test_the_directions_are_those_of_the_svd_and_the_lengths_near_one(shape):
    torch.manual_seed(3)
    x = torch.randn(3, *shape, dtype=torch.float64)
    turned = orthogonal(x)
    left, _, right = torch.linalg.svd(x, full_matrices=False)
    inside = left.mT @ turned @ right.mT
    lengths = inside.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(inside, torch.diag_embed(lengths), rtol=0, atol=1e-9)
    assert float(lengths.min()) > 0.3  # the smallest directions of a square matrix are not yet there after 5 rounds
    assert float(lengths.max()) < 1.3


def test_a_zero_matrix_stays_zero():
    assert not orthogonal(torch.zeros(2, 3)).any()


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("scale", ["jordan", "moonlight"])
def test_all_at_once_is_one_at_a_time(nesterov, scale):
    torch.manual_seed(2)
    rule = Muon(nesterov=nesterov, scale=scale, precision="float64")
    pace = Pace(count=3, rate=0.1, decay=0.2)
    shapes = [(3, 4), (6, 2), (3, 4)]
    weights, gradients, kept = ([torch.randn(shape, dtype=torch.float64) for shape in shapes] for _ in range(3))
    single = [[tensor.clone() for tensor in tensors] for tensors in (weights, gradients, kept)]
    rule.update(weights, gradients, {"momentum": kept}, pace)
    for weight, gradient, momentum in zip(*single, strict=True):
        muon(weight, gradient, momentum, pace, rule)
    torch.testing.assert_close(weights, single[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(kept, single[2], rtol=1e-14, atol=1e-14)


def test_every_weight_is_moved_by_one_of_the_two(toy):
    module = toy(torch.float32)
    groups = Muon().build(module).groups
    names = [name for group in groups for name in group.names]
    assert sorted(names) == sorted(name for name, _ in module.named_parameters())
    assert all(name.startswith("blocks.") and name.endswith(".weight") for name in groups[0].names)
    assert len(groups[0].names) == 4


def test_a_module_without_blocks_is_refused():
    with pytest.raises(BadInput, match="no hidden matrix"):
        Muon().build(torch.nn.Linear(3, 2))


def test_a_run_goes_on_bit_for_bit_from_its_state(toy, resumed):
    straight, again = resumed(Muon(), lambda: toy(torch.float32))
    assert all(torch.equal(one, other) for one, other in zip(straight.parameters(), again.parameters(), strict=True))
