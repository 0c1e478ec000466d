"""`train.adam` and `train.adamw` as parts to replace: means, corrections, eps, rate, decay, each by itself.

A step is a function of the numbers handed over, so each is moved alone: with the second mean at zero only eps is left
below the line; with no gradient and no mean only the decay is left.
Read next: train/optimisers/adam.py, lab/checks/adam.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cutaway.lab.checks.adam import adam_oracle
from cutaway.lab.swap.part import Candidate, Part, Probe
from cutaway.lab.swap.trial import difference
from cutaway.lab.swap.verdict import Case
from cutaway.train.optimisers.adam import adam
from cutaway.train.optimisers.adamw import adamw
from cutaway.train.optimisers.descent import Pace

BETAS = (0.8, 0.95)
RATE, EPS = 0.1, 1e-8


def stepped(
    step: Candidate, *, count: int = 1, rate: float = RATE, decay: float = 0.0, **told: float
) -> tuple[float, ...]:
    """(weight, first, second) after one step from these numbers, in float64. `told`: weight (1), gradient, first,
    second (0), eps."""
    numbers = {"weight": 1.0, "gradient": 0.0, "first": 0.0, "second": 0.0, "eps": EPS, **told}
    eps = numbers.pop("eps")
    held = [torch.tensor([one], dtype=torch.float64) for one in numbers.values()]
    with torch.no_grad():
        step(*held, Pace(count=count, rate=rate, decay=decay), BETAS, eps)
    return float(held[0]), float(held[2]), float(held[3])


def _trial(step: Candidate, gradients: Sequence[float], decay: float, decays: bool, eps: float) -> Case | None:
    start = [0.5, -2.0]
    held = [torch.tensor(start), torch.zeros(2), torch.zeros(2)]
    for count, gradient in enumerate(gradients, 1):
        given = torch.tensor([gradient, -gradient])
        with torch.no_grad():
            step(held[0], given, held[1], held[2], Pace(count=count, rate=RATE, decay=decay), BETAS, eps)
    told = {"rate": RATE, "betas": BETAS, "eps": eps, "decay": decay if decays else 0.0}
    rows = [
        adam_oracle(one, [sign * gradient for gradient in gradients], **told)
        for one, sign in zip(start, (1, -1), strict=True)
    ]
    inputs = {
        "weight": str(start),
        "gradients": str(list(gradients)),
        **{name: str(value) for name, value in told.items()},
    }
    what = f"{len(gradients)} step{'s' if len(gradients) > 1 else ''} from means of zero, pace.decay={decay}"
    for place, got, index in (("first", held[1], 1), ("second", held[2], 2), ("weight", held[0], 0)):
        case = difference(place, got, torch.tensor([row[index] for row in rows]), 2e-5, what, inputs)
        if case is not None:
            return case
    return None


def _trials(step: Candidate, decays: bool) -> Sequence[Callable[[], Case | None]]:
    long = [0.3, -1.0, 2.0, 0.5, -0.1, 0.0, 4.0, 1e-3] * 3
    told = (
        ([1.0], 0.0, EPS),
        ([0.5], 0.0, 0.3),
        ([1.0], 0.1, EPS),
        ([1.0, -2.0], 0.0, EPS),
        ([1e-6, 1e-6], 0.0, 1e-3),
        (long, 0.0, EPS),
        (long, 0.1, 0.1),
    )
    return [partial(_trial, step, gradients, decay, decays, eps) for gradients, decay, eps in told]


def _in_place(step: Candidate) -> str | None:
    held = [torch.tensor([one]) for one in (1.0, 2.0, 0.2, 0.3)]
    before = [one.clone() for one in held]
    with torch.no_grad():
        step(*held, Pace(count=2, rate=RATE, decay=0.0), BETAS, EPS)
    if not torch.equal(held[1], before[1]):
        return "`gradient` is changed by the call"
    stale = [
        name for name, index in (("weight", 0), ("first", 2), ("second", 3)) if torch.equal(held[index], before[index])
    ]
    if stale:
        return f"`{'` and `'.join(stale)}` did not change: what a name is bound to anew is lost, copy into the tensor"
    return None


def _first(step: Candidate) -> str | None:
    new, old = stepped(step, gradient=1.0)[1], stepped(step, first=1.0)[1]
    right = (1 - BETAS[0], BETAS[0])
    if abs(new - right[0]) < 1e-6 and abs(old - right[1]) < 1e-6:
        return None
    if abs(new - (1 - BETAS[1])) < 1e-6 and abs(old - BETAS[1]) < 1e-6:
        return "the betas are exchanged: the first mean moves by the second beta"
    if abs(new - right[1]) < 1e-6 and abs(old - right[0]) < 1e-6:
        return "beta weighs the new gradient and 1 - beta the old mean: the other way round"
    if abs(stepped(step, gradient=1.0, count=3)[1] * (1 - BETAS[0] ** 3) - right[0]) < 1e-6:
        return "the mean is kept divided by its correction, which the next step then divides again"
    if abs(new - 1.0) < 1e-6:
        return "the gradient comes into the first mean whole, not times 1 - beta"
    if abs(new * (1 - BETAS[0]) - right[0]) < 1e-6 or abs(old - 1.0) < 1e-6:
        return f"of the old first mean {old:.4g} is left, not beta = {right[1]}"
    said = f"of the gradient {new:.4g} and of the old first mean {old:.4g} are taken"
    return f"{said}, not {right[0]:.4g} and {right[1]:.4g}"


def _second(step: Candidate) -> str | None:
    new, old = stepped(step, gradient=3.0)[2], stepped(step, second=1.0)[2]
    share = 1 - BETAS[1]
    if abs(new - 9 * share) < 1e-6 and abs(old - BETAS[1]) < 1e-6:
        return None
    if abs(new - 3 * share) < 1e-6:
        return "the gradient is not squared"
    if abs(new - 9 * (1 - BETAS[0])) < 1e-6:
        return "the betas are exchanged: the second mean moves by the first beta"
    if abs(new - 9.0) < 1e-6:
        return "the squared gradient comes into the second mean whole, not times 1 - beta"
    if abs(new - 9 * share) < 1e-6:
        return f"of the old second mean {old:.4g} is left, not beta = {BETAS[1]}"
    said = f"a gradient of 3 gives a second mean of {new:.4g}, and should {9 * share:.4g}"
    return f"{said}; of the old one {old:.4g} is left"


def _moved(step: Candidate, **told: Any) -> float:
    """How far the weight goes down."""
    return told.get("weight", 1.0) - stepped(step, **told)[0]


def _which(step: Candidate) -> str | None:
    """Two ways to the same new means go as far: by a gradient, and by what the means were."""
    now = {"gradient": 1.0, "first": 0.0, "second": 1.0}
    before = {"gradient": 0.0, "first": (1 - BETAS[0]) / BETAS[0], "second": 1 / BETAS[1]}
    ends = [stepped(step, count=5, **one) for one in (now, before)]
    if max(abs(ends[0][place] - ends[1][place]) for place in (1, 2)) > 1e-9:
        return None  # the means themselves are wrong, which their own probes say
    moved = [1.0 - end[0] for end in ends]
    if abs(moved[0] - moved[1]) < 1e-6 * max(map(abs, moved)):
        return None
    if abs(moved[0]) < 1e-9:
        return "the step takes the first mean as it was before this gradient: update the means, then step"
    return (
        f"the new means are the same and the steps are not, {moved[0]:.4g} and {moved[1]:.4g}: it takes more than them"
    )


def _precision(step: Candidate) -> str | None:
    """A step that is off by what half precision loses, wherever it starts."""
    found = []
    for gradient, first, second in ((0.37, 0.21, 0.13), (1.3, 0.7, 2.1), (0.91, -0.33, 0.57)):
        mean, square = (
            beta * old + (1 - beta) * new
            for beta, old, new in zip(BETAS, (first, second), (gradient, gradient**2), strict=True)
        )
        right = RATE * mean / (1 - BETAS[0] ** 3) / (square / (1 - BETAS[1] ** 3)) ** 0.5
        told = {"weight": 0.0, "gradient": gradient, "first": first, "second": second, "eps": 1e-15}
        found.append(abs(_moved(step, count=3, **told) / right - 1))
    if max(found) > 1e-5 and max(found) < 1e-2:
        return f"steps are off by {max(found):.2g} of themselves: something is rounded to half precision"
    return None


def _sign(step: Candidate) -> str | None:
    moved = _moved(step, gradient=1.0, count=3)
    return None if moved > 0 else "the weight goes up the gradient" if moved < 0 else "the weight does not move"


def _rate(step: Candidate) -> str | None:
    one, two = (_moved(step, gradient=1.0, rate=rate, count=3) for rate in (0.1, 0.2))
    if abs(two / one - 2) < 1e-3:
        return None
    return "twice the rate does not move twice as far" + (": the rate is ignored" if abs(two / one - 1) < 1e-3 else "")


def _correction(step: Candidate) -> str | None:
    """What the step number does, by means that do not change: first 1, second 1, gradient 1."""
    told = {"gradient": 1.0, "first": 1.0, "second": 1.0}
    found = {count: _moved(step, count=count, **told) / RATE for count in (1, 2, 5)}

    def is_like(rule: Callable[[int], float]) -> bool:
        return all(abs(got - rule(count)) < 1e-4 * abs(rule(count)) for count, got in found.items())

    def one(count: int) -> float:
        return 1 - BETAS[0] ** count

    def two(count: int) -> float:
        return (1 - BETAS[1] ** count) ** 0.5

    rules = (
        (lambda count: two(count) / one(count), None),
        (lambda count: 1.0, "there is no bias correction: the step does not depend on the step's number"),
        (lambda count: 1 / one(count), "the second mean is not corrected"),
        (lambda count: two(count), "the first mean is not corrected"),
        (lambda count: two(count + 1) / one(count + 1), "the step's number is off by one: `pace.count` starts at 1"),
        (lambda count: two(count) ** 2 / one(count), "the second mean's correction is outside the root"),
        (lambda count: one(count) / two(count), "means are multiplied by their corrections, not divided"),
        (lambda count: one(count) ** 0.5 / one(count), "both means are corrected with the first beta"),
        (lambda count: two(count) / two(count) ** 2, "both means are corrected with the second beta"),
    )
    for rule, said in rules:
        if is_like(rule):
            return said
    try:
        if abs(_moved(step, count=3, **told) / RATE - two(2) / one(2)) < 1e-4:
            return "the step's number is off by one: `pace.count` starts at 1"
    except ZeroDivisionError:
        return "the step's number is off by one: `pace.count` starts at 1"
    count = max(found, key=lambda one_count: abs(found[one_count] - two(one_count) / one(one_count)))
    right = two(count) / one(count)
    return f"with both means at 1 step {count} moves by {found[count]:.4g} rates, and should by {right:.4g}"


def _own_weight(step: Candidate) -> str | None:
    """Without decay a step is the same wherever it starts."""
    told = {"gradient": 1.0, "first": 0.5, "second": 1.0}
    near, far = (_moved(step, weight=weight, count=3, **told) for weight in (0.5, 4.0))
    if abs(near - far) < 1e-2 * max(abs(near), abs(far)) + 1e-12:
        return None
    return f"without decay a weight of 0.5 moves by {near:.4g} and one of 4 by {far:.4g}: a step is the same for both"


def _proportion(step: Candidate) -> str | None:
    """How far a step goes for a first mean four times as large."""
    sizes = (0.2, 2.0)
    moved = [[_moved(step, first=first, second=1.0, count=50) for first in (size, 4 * size)] for size in sizes]
    if not all(near for near, _ in moved):
        return None
    times = [far / near for near, far in moved]
    size, found = next((one for one in zip(sizes, times, strict=True) if abs(one[1] - 4) > 4e-2), (None, 4.0))
    if size is None:
        return None
    also = ": only its sign counts" if max(abs(one - 1) for one in times) < 1e-3 else ""
    return f"a first mean of {4 * size:g} moves {found:.3g} times as far as one of {size:g}, and should 4 times{also}"


def _root(step: Candidate) -> str | None:
    """How far a step goes for a second mean four times as large."""
    near, far = (_moved(step, first=1.0, second=second, count=50) for second in (1.0, 4.0))
    if abs(near / far - 2) < 1e-3:
        return None
    if abs(near / far - 4) < 1e-3:
        return "the root is missing: divided by the mean square itself"
    return (
        "the second mean does not count"
        if abs(near / far - 1) < 1e-3
        else f"a second mean of 4 slows by {near / far:.3g}, not 2"
    )


def _eps(step: Candidate) -> str | None:
    """Below the line of a step by a first mean alone there is only eps."""
    eps, count = 0.01, 2
    corrected = BETAS[0] / (1 - BETAS[0] ** count)
    if abs(_moved(step, first=1.0, second=0.5, count=count, eps=eps)) == 0:
        return None
    try:
        below = RATE * corrected / _moved(step, first=1.0, count=count, eps=eps)
    except ZeroDivisionError:
        below = 0.0
    # Were the correction wrong, this would be so too: held against a step without eps.
    base = _moved(step, first=1.0, second=1.0, count=count, eps=1e-15) / (
        RATE * corrected / (BETAS[1] / (1 - BETAS[1] ** count)) ** 0.5
    )
    below *= base
    root = (1 - BETAS[1] ** count) ** 0.5
    for right, said in (
        (eps, None),
        (eps**0.5, "eps is added inside the root"),
        (eps / root, "eps is added before the second mean's correction, which then magnifies it"),
        ((eps**0.5) / root, "eps is added inside the root, before the correction"),
        (eps**2, "eps is squared"),
    ):
        if abs(below / right - 1) < 1e-2:
            return (
                said if said is None else f"{said}: with a second mean of 0 the line holds {below:.3g}, not {eps:.3g}"
            )
    if not below > 1e-9:
        return "eps is missing: a second mean of 0 divides by nothing"
    return f"with a second mean of 0 and eps {eps:g} the line below holds {below:.3g}"


def _decay(step: Candidate, decays: bool) -> str | None:
    decay, start = 0.3, 2.0
    means = stepped(step, weight=start, decay=decay)[1:]
    if max(map(abs, means)) > 1e-9:
        said = "the decay is coupled: it goes through the means, as part of the gradient"
        return said if decays else f"{said}; here the caller has added it already"
    moved = _moved(step, weight=start, decay=decay)
    right = RATE * decay * start if decays else 0.0
    if abs(moved - right) > 1e-3 * decay * start * RATE:
        if not decays:
            return "the weight decays: here the caller has added the decay to the gradient already"
        if moved == 0:
            return "the decay is ignored"
        if abs(moved - decay * start) < 1e-9:
            return "the decay is not multiplied by the rate"
        return (
            f"without a gradient a weight of 2 goes down by {moved:.4g}, and should by rate * decay * 2 = {right:.4g}"
        )
    if not decays:
        return None
    free, both = (stepped(step, weight=start, gradient=1.0, decay=one)[0] for one in (0.0, decay))
    if abs(both - (free - right)) > 1e-4:
        after = abs(both - free * (1 - RATE * decay)) < 1e-4
        return "the decay comes after the step, on a weight that has moved" if after else "the decay changes the step"
    return None


def _half(step: Candidate) -> str | None:
    held = [torch.tensor([one], dtype=torch.bfloat16) for one in (1.0, 0.5, 0.0, 0.0)]
    try:
        with torch.no_grad():
            step(*held, Pace(count=1, rate=RATE, decay=0.0), BETAS, EPS)
    except Exception as error:
        return f"weights in bfloat16 end in {type(error).__name__}: {error}"
    return None


def _several(step: Candidate) -> str | None:
    """A number of a weight moves by its own gradient alone."""
    moved = []
    for other in (0.1, 5.0):
        held = [torch.zeros(2, 2) for _ in range(4)]
        held[1] += torch.tensor([[1.0, other], [other, other]])
        with torch.no_grad():
            step(*held, Pace(count=2, rate=RATE, decay=0.0), BETAS, EPS)
        moved.append(torch.stack([held[place][0, 0] for place in (0, 2, 3)]))
    return (
        None
        if float((moved[0] - moved[1]).abs().max()) < 1e-6
        else "a number's step depends on its neighbours' gradients"
    )


def _probes(decays: bool) -> tuple[Probe, ...]:
    return (
        Probe(property="in place", find=_in_place),
        Probe(property="number by number", find=_several),
        Probe(property="own weight", find=_own_weight),
        Probe(property="decay", find=partial(_decay, decays=decays)),
        Probe(property="first mean", find=_first),
        Probe(property="second mean", find=_second),
        Probe(property="means of this step", find=_which),
        Probe(property="direction", find=_sign),
        Probe(property="rate", find=_rate),
        Probe(property="precision", find=_precision),
        Probe(property="proportion", find=_proportion),
        Probe(property="root", find=_root),
        Probe(property="bias correction", find=_correction),
        Probe(property="eps", find=_eps),
        Probe(property="dtype", find=_half),
    )


def _bench() -> tuple[tuple[Any, ...], dict[str, Any]]:
    held: list[Tensor] = [torch.ones(512, 512) for _ in range(4)]
    return (*held, Pace(count=3, rate=1e-3, decay=0.0), BETAS, EPS), {}


ADAM = Part(
    name="train.adam",
    about="Adam's step of one weight, in place; the caller has added what decay there is to the gradient",
    ours=adam,
    positional=7,
    optional={},
    trials=partial(_trials, decays=False),
    probes=_probes(False),
    place=None,
    bench=_bench,
)
ADAMW = Part(
    name="train.adamw",
    about="AdamW's step of one weight, in place: the decay beside Adam's step",
    ours=adamw,
    positional=7,
    optional={},
    trials=partial(_trials, decays=True),
    probes=_probes(True),
    place=None,
    bench=_bench,
)
