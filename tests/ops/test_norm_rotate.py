from __future__ import annotations

import pytest

from cutaway.lab.checks.norm_rotate import check_norm_rotate
from cutaway.ops.norm import rms_norm_readable
from cutaway.ops.norm_rotate import norm_rotate_readable
from cutaway.ops.rope import rotate_readable


def test_it_is_the_norm_and_then_the_rotation():
    check_norm_rotate(norm_rotate_readable)


def the_other_order(x, weight, cos, sin, *, eps, offset, interleaved):
    return rms_norm_readable(rotate_readable(x, cos, sin, interleaved), weight, eps=eps, offset=offset)


def other_layout(x, weight, cos, sin, *, interleaved, **told):
    return norm_rotate_readable(x, weight, cos, sin, interleaved=not interleaved, **told)


def no_offset(x, weight, cos, sin, *, offset, **told):
    return norm_rotate_readable(x, weight, cos, sin, offset=0.0, **told)


@pytest.mark.parametrize("wrong", [the_other_order, other_layout, no_offset])
def test_the_check_catches_a_wrong_one(wrong):
    with pytest.raises(AssertionError, match="output"):
        check_norm_rotate(wrong)
