from __future__ import annotations

import pytest

from cutaway.lab.anatomy import anatomy
from cutaway.lab.branches import _ranges, difference, trunk


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
        below = branch.branches(fold=fold)
        return sum(map(leaves, below)) if below else branch.share

    for value in (spec, older):
        # Biases are held by the matrices that they belong to, so that the leaves are all there is.
        assert leaves(trunk(anatomy(value.build()), "")) == pytest.approx(1.0)


def test_a_similar_block_is_told_by_what_differs(spec):
    tree = trunk(anatomy(spec.build()), "decoder")
    near, far = tree.branches(brief=True)[1:3]
    assert near.beside is None and near.note == "3 alike"
    assert far.beside is near.part and [branch.label for branch in far.branches(brief=True)] == ["mixer"]
    (mixer,) = far.branches(brief=True)
    assert mixer.note == "window=None" and mixer.branches(brief=True) == ()
    assert [branch.label for branch in far.branches()] == [branch.label for branch in near.branches()]


def test_differences_are_in_plain_fields(spec):
    near, far = spec.blocks[0].mixer, spec.blocks[2].mixer
    assert (difference(far, near), difference(near, far), difference(near, near)) == ("window=None", "window=4", "")
    assert difference(None, near) == difference(spec.blocks[0].feed, near) == ""


def test_ranges():
    assert _ranges([0, 1, 2, 4]) == "0-2,4"
    assert _ranges([5]) == "5"
    assert _ranges([0, 2, 4, 5]) == "0,2,4-5"
