"""The checks find every deliberately wrong rotation and table."""

from __future__ import annotations

import pytest
import torch

from cutaway.lab.checks.rope import check_rotate, check_tables
from cutaway.ops.rope import rotate_readable, tables


def rotated_last(x, cos, sin, interleaved):
    width = cos.shape[-1]
    return torch.cat((x[..., :-width], rotate_readable(x[..., x.shape[-1] - width :], cos, sin, interleaved)), -1)


def unsigned(x, cos, sin, interleaved):
    swapped = x[..., : cos.shape[-1]]
    swapped = (
        swapped.unflatten(-1, (-1, 2)).flip(-1).flatten(-2) if interleaved else swapped.roll(cos.shape[-1] // 2, -1)
    )
    width = cos.shape[-1]
    return torch.cat((x[..., :width] * cos + swapped * sin.abs(), x[..., width:]), -1)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, cos, sin, interleaved: rotate_readable(x, cos, -sin, interleaved),
        lambda x, cos, sin, interleaved: rotate_readable(x, sin, cos, interleaved),
        lambda x, cos, sin, interleaved: rotate_readable(x, cos, sin, not interleaved),
        lambda x, cos, sin, interleaved: rotate_readable(x, cos, sin, False),
        lambda x, cos, sin, interleaved: rotate_readable(x, cos, sin, interleaved)[..., : cos.shape[-1]],
        lambda x, cos, sin, interleaved: x,
        lambda x, cos, sin, interleaved: rotate_readable(x.detach(), cos, sin, interleaved) + 0 * x,
        lambda x, cos, sin, interleaved: rotate_readable(x, cos, sin, interleaved).float().to(x.dtype),
        lambda x, cos, sin, interleaved: rotate_readable(x, cos[:1], sin[:1], interleaved),
        rotated_last,
        unsigned,
    ],
    ids=[
        "turns backwards",
        "sine for cosine",
        "the other layout",
        "one layout for both",
        "rest is lost",
        "does nothing",
        "no gradient",
        "float64 lost",
        "one position for all",
        "turns the last dims",
        "sine has lost its sign",
    ],
)
def test_a_wrong_rotation_is_found(wrong):
    with pytest.raises(AssertionError):
        check_rotate(wrong)


def changed(change):
    def wrong(frequencies, positions, *, dtype, amplitude, interleaved):
        return change(frequencies, positions, dtype, amplitude, interleaved)

    return wrong


@pytest.mark.parametrize(
    "wrong",
    [
        lambda f, p, d, a, i: tables(f, p + 1, dtype=d, amplitude=a, interleaved=i),
        lambda f, p, d, a, i: tables(f, p, dtype=d, interleaved=i),
        lambda f, p, d, a, i: tables(f, p, dtype=d, amplitude=a, interleaved=False),
        lambda f, p, d, a, i: tables(f, p, dtype=torch.float32, amplitude=a, interleaved=i),
        lambda f, p, d, a, i: tables(f, p, dtype=d, amplitude=a, interleaved=i)[::-1],
        lambda f, p, d, a, i: tuple(t.abs() for t in tables(f, p, dtype=d, amplitude=a, interleaved=i)),
        lambda f, p, d, a, i: tables(f.bfloat16(), p.bfloat16(), dtype=d, amplitude=a, interleaved=i),
    ],
    ids=["off by one", "no amplitude", "one layout", "one dtype", "swapped", "no sign", "positions in bfloat16"],
)
def test_wrong_tables_are_found(wrong):
    with pytest.raises(AssertionError):
        check_tables(changed(wrong))
