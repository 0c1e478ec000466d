from __future__ import annotations

import pytest

from cutaway.lab.anatomy import anatomy
from cutaway.lab.branches import _ranges, trunk


def test_equal_blocks_are_one_branch(spec):
    tree = trunk(anatomy(spec.build()), "decoder")
    labels = [branch.label for branch in tree.branches()]
    assert labels == ["embedding", "blocks.0-1,3", "blocks.2", "norm"]  # the third sees everything, the others a window
    near = tree.branches()[1]
    assert (near.alike, near.copies) == (3, 3)
    assert near.share == pytest.approx(3 * near.part.share)
    norms = [branch.label for branch in near.branches()]
    assert norms[:2] == ["mixer_norms.before", "mixer_norms.after"] and "feed_norms.before" in norms
    assert near.branches()[0].copies == 3


def test_unfolded_every_block_stands_alone(spec):
    labels = [branch.label for branch in trunk(anatomy(spec.build()), "decoder").branches(fold=False)]
    assert labels == ["embedding", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "norm"]


@pytest.mark.parametrize("fold", [True, False])
def test_shares_add_up_to_all(spec, older, fold):
    def leaves(branch):
        below = branch.branches(fold)
        return sum(map(leaves, below)) if below else branch.share

    for value in (spec, older):
        # Biases are held by the matrices that they belong to, so that the leaves are all there is.
        assert leaves(trunk(anatomy(value.build()), "")) == pytest.approx(1.0)


def test_ranges():
    assert _ranges([0, 1, 2, 4]) == "0-2,4"
    assert _ranges([5]) == "5"
    assert _ranges([0, 2, 4, 5]) == "0,2,4-5"
