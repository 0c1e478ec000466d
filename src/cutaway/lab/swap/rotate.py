"""`ops.rotate` as a part to replace: how one number of a head moves, read off from unit vectors.

Rotating is linear: what unit vector j becomes is column j of a matrix, and that matrix says layout, sign and lengths.
N tokens, flat · H head · K head dim · W rotary width.   Read next: ops/rope.py, lab/checks/rope.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cutaway.lab.checks.rope import pair, rotate_oracle
from cutaway.lab.swap.general import form_probes
from cutaway.lab.swap.part import Candidate, Part, Probe
from cutaway.lab.swap.sight import normal
from cutaway.lab.swap.trial import Trial, attempt, close
from cutaway.lab.swap.verdict import Case
from cutaway.ops.rope import rotate_readable, tables

SHAPES = (
    (1, 1, 2, 2),
    (1, 1, 4, 4),
    (1, 2, 4, 4),
    (3, 1, 4, 4),
    (2, 1, 4, 2),
    (3, 2, 6, 6),
    (4, 1, 9, 4),
    (2, 3, 8, 2),
    (1, 9, 8, 8),
    (5, 8, 16, 4),
)


ROUNDED = 5e-3  # what two factors rounded to bfloat16, with 8 bits, may be off by


def told(angles: Tensor, interleaved: bool) -> tuple[Tensor, Tensor]:
    """Tables of the angles (N, W / 2), in their dtype."""
    _tokens, pairs = angles.shape
    made = [tables(row, torch.ones(1), dtype=angles.dtype, interleaved=interleaved) for row in angles]
    if not made:
        return angles.new_zeros(0, 1, 2 * pairs), angles.new_zeros(0, 1, 2 * pairs)
    return torch.cat([cos for cos, _ in made]), torch.cat([sin for _, sin in made])


def trial(shape: tuple[int, int, int, int], interleaved: bool, dtype: torch.dtype = torch.float32) -> Trial:
    tokens, heads, head_dim, width = shape
    angles = normal(tokens, width // 2, seed=2).double() * 3
    cos, sin = told(angles, interleaved)
    return Trial(
        what=f"{tokens} tokens, {heads} heads of {head_dim}, {width} of them turned, interleaved={interleaved}",
        inputs={"x": normal(tokens, heads, head_dim, seed=1).double(), "cos": cos, "sin": sin},
        options={"interleaved": interleaved},
        oracle=lambda x, cos, sin, interleaved: rotate_oracle(x.numpy(), angles.numpy(), interleaved),
        smooth=rotate_readable,
        learned=("x",) if dtype == torch.float32 else (),
        dtype=dtype,
    )


def trials(candidate: Candidate) -> Sequence[Callable[[], Case | None]]:
    made = [trial(shape, interleaved) for shape in SHAPES for interleaved in (False, True)]
    made += [trial((3, 2, 6, 6), interleaved, torch.bfloat16) for interleaved in (False, True)]
    made += [trial((0, 2, 4, 4), False)]
    return [partial(attempt, one, candidate) for one in made]


def columns(rotate: Candidate, angle: float, width: int, head_dim: int, interleaved: bool) -> Tensor:
    """(K, K): row j is what unit vector j becomes; every pair turns by the angle."""
    cos, sin = told(torch.full((head_dim, width // 2), angle), interleaved)
    with torch.no_grad():
        return rotate(torch.eye(head_dim)[:, None], cos, sin, interleaved=interleaved)[:, 0]


def _identity(rotate: Candidate) -> str | None:
    for interleaved in (False, True):
        still = columns(rotate, 0.0, 4, 4, interleaved)
        if not close(still, torch.eye(4)) and float(still.diag().abs().max()) < 1e-4:
            return "an angle of 0 turns all the way: cosine and sine stand in each other's place"
        if not close(still, torch.eye(4)):
            return "an angle of 0 moves something: at position 0 nothing moves"
    return None


def partners(rotate: Candidate, width: int, interleaved: bool) -> list[tuple[int, ...]]:
    """For each number of a head the others that move with it."""
    moved = columns(rotate, 0.7, width, width, interleaved).abs() > 1e-3
    return [tuple(j for j in range(width) if moved[i, j] and j != i) for i in range(width)]


def _right_partners(width: int, interleaved: bool) -> list[tuple[int, ...]]:
    right: list[tuple[int, ...]] = [()] * width
    for index in range(width // 2):
        one, other = pair(index, width, interleaved)
        right[one], right[other] = (other,), (one,)
    return right


def _layout(rotate: Candidate) -> str | None:
    said = {True: "neighbours (2i, 2i+1)", False: "halves (i, i + W/2)"}
    wrong = []
    for interleaved in (False, True):
        got, right = partners(rotate, 6, interleaved), _right_partners(6, interleaved)
        if got == right:
            continue
        if got == _right_partners(6, not interleaved):
            wrong.append(f"interleaved={interleaved} turns {said[not interleaved]}, and should {said[interleaved]}")
        else:
            wrong.append(
                f"interleaved={interleaved}: number 0 moves with {list(got[0])}, and should with {right[0][0]}"
            )
    if not wrong:
        return None
    return wrong[0] if len(wrong) == 2 else f"{wrong[0]} (`interleaved` is ignored, or half done)"


def _turned(rotate: Candidate, angle: float, interleaved: bool) -> Tensor:
    """(2, 2): what the two unit vectors of pair 0 become; [[cos, sin], [-sin, cos]] if it turns."""
    one, other = pair(0, 4, interleaved)
    return columns(rotate, angle, 4, 4, interleaved)[[one, other]][:, [one, other]]


def _by(turned: Tensor) -> float | None:
    """By how much a pair turned; None where it did something else."""
    (a, b), (c, d) = turned.tolist()
    turns = abs(a - d) < ROUNDED and abs(b + c) < ROUNDED and abs(a * a + b * b - 1) < ROUNDED
    return math.atan2(b, a) if turns else None


def _angle(rotate: Candidate) -> str | None:
    """It turns, and by the table's angle: neither twice nor half."""
    for interleaved in (False, True):
        found = [_by(_turned(rotate, angle, interleaved)) for angle in (0.3, 0.7)]
        for angle, by in zip((0.3, 0.7), found, strict=True):
            if by is None or min(abs(by - angle), abs(by + angle)) < ROUNDED:
                continue  # right, or no rotation, or backwards, which others say
            also = ": the rotation acts twice" if abs(by - 2 * angle) < ROUNDED else ""
            return f"interleaved={interleaved}: an angle of {angle} turns by {by:.3f}{also}"
    return None


def _sign(rotate: Candidate) -> str | None:
    angle = 0.7
    for interleaved in (False, True):
        turned = _turned(rotate, angle, interleaved)
        cos, sin = math.cos(angle), math.sin(angle)
        if close(turned, torch.tensor([[cos, sin], [-sin, cos]]), ROUNDED):
            continue
        if close(turned, torch.tensor([[cos, -sin], [sin, cos]]), ROUNDED):
            return f"interleaved={interleaved}: it turns backwards, (a cos + b sin, b cos - a sin)"
        if bool((turned.diag() - cos).abs().max() < 1e-4) and bool(
            ((turned.abs() - abs(sin)).fill_diagonal_(0)).abs().max() < 1e-4
        ):
            return f"interleaved={interleaved}: both sines have one sign; the table's minus is lost, or counted twice"
        if _by(turned) is not None:
            continue  # said by `_angle`
        if close(turned.flip(0), torch.tensor([[cos, sin], [-sin, cos]]), ROUNDED):
            return f"interleaved={interleaved}: the two numbers of a pair come out in each other's place"
        said = f"interleaved={interleaved}: (1, 0) becomes ({turned[0, 0]:.3f}, {turned[0, 1]:.3f})"
        return f"{said}, not ({cos:.3f}, {sin:.3f})"
    return None


def _lengths(rotate: Candidate) -> str | None:
    for interleaved in (False, True):
        length = columns(rotate, 0.7, 4, 4, interleaved).norm(dim=-1)
        if not close(length, torch.ones(4), ROUNDED):
            return f"a vector of length 1 becomes one of {float(length[0]):.3f}: turning keeps lengths"
    return None


def _rest(rotate: Candidate) -> str | None:
    cos, sin = told(torch.full((1, 1), 0.7), False)
    x = normal(1, 1, 6, seed=3)
    try:
        got = rotate(x, cos, sin, interleaved=False)
    except Exception as error:
        return f"heads wider than the table end in {type(error).__name__}: the rest passes through"
    if got.shape != x.shape:
        return f"of a head of 6 with 2 to turn, {got.shape[-1]} numbers are left"
    if not close(got[..., 2:], x[..., 2:]):
        return "what lies beyond the table's width moves: it passes through"
    if not close(got[..., :2], rotate(x[..., :2], cos, sin, interleaved=False)):
        return "the same 2 numbers turn otherwise in a head of 6: pairs are made within the table's width"
    return None


def _own_angle(rotate: Candidate) -> str | None:
    """A token turns by its own row of the table, and every head of it alike."""
    x, angles = normal(3, 3, 4, seed=5), normal(3, 2, seed=6)
    other = angles.clone()
    other[1] += 1.0
    got, moved = (rotate(x, *told(one, False), interleaved=False) for one in (angles, other))
    change_NH = (got - moved).abs().amax(-1) > 1e-5
    right_NH = torch.zeros(3, 3, dtype=torch.bool)
    right_NH[1] = True
    if torch.equal(change_NH, right_NH):
        return None
    if torch.equal(change_NH, right_NH.T):
        return "heads turn by the rows of the table, tokens alike: the axes are mistaken for each other"
    places = [tuple(place) for place in change_NH.nonzero().tolist()]
    return f"another angle for token 1 moves (token, head) {places[:4]}, and should move all heads of token 1"


def _pairs_own(rotate: Candidate) -> str | None:
    """Each pair turns by its own angle."""
    for interleaved in (False, True):
        angles = torch.tensor([[0.0, 0.9]])
        x = normal(1, 1, 4, seed=7)
        change = (rotate(x, *told(angles, interleaved), interleaved=interleaved) - x).abs()[0, 0] > 1e-5
        moved, right = set(change.nonzero().flatten().tolist()), set(pair(1, 4, interleaved))
        if moved != right:
            return f"interleaved={interleaved}: an angle for pair 1 moves numbers {sorted(moved)}, not {sorted(right)}"
    return None


def _precision(rotate: Candidate) -> str | None:
    turned, right = (columns(one, 0.7, 4, 4, False) for one in (rotate, rotate_readable))
    apart = float((turned - right).abs().max())
    if 1e-5 < apart < ROUNDED:
        return f"unit vectors turn {apart:.2g} beside where they should: a table is rounded to half precision"
    cos, sin = told(torch.zeros(1, 2), False)
    value = 1 + 2.0**-14
    got = rotate(torch.full((1, 1, 4), value), cos, sin, interleaved=False).double()
    error = float((got - value).abs().max())
    return (
        f"{value:.7f} comes out as {float(got[0, 0, 0]):.7f}: rounded to half precision"
        if 1e-6 < error < 0.02
        else None
    )


def _call(rotate: Candidate, dtype: torch.dtype = torch.float32) -> tuple[tuple[Any, ...], dict[str, Any]]:
    cos, sin = told(normal(3, 2, seed=2), False)
    return (normal(3, 2, 4).to(dtype), cos.to(dtype), sin.to(dtype)), {"interleaved": False}


def _bench() -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (normal(128, 9, 64), *told(normal(128, 32, seed=1), False)), {"interleaved": False}


PART = Part(
    name="ops.rotate",
    about="rotary positions: each pair of a head's numbers turns by its angle",
    ours=rotate_readable,
    positional=3,
    named=("interleaved",),
    optional={},
    trials=trials,
    probes=(
        *form_probes(_call, rotate_readable, tensors=1, rows=3),
        Probe(property="precision", find=_precision),
        Probe(property="partial width", find=_rest),
        Probe(property="lengths stay", find=_lengths),
        Probe(property="rope layout", find=_layout),
        Probe(property="position 0", find=_identity),
        Probe(property="angle", find=_angle),
        Probe(property="sign of the rotation", find=_sign),
        Probe(property="each token's own angle", find=_own_angle),
        Probe(property="each pair's own angle", find=_pairs_own),
    ),
    place="rotate",
    bench=_bench,
)
