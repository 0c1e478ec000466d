"""`ops.rms_norm` and `ops.layer_norm` as parts to replace: scale, mean, eps, weight and axis, each by itself.

For a row of equal numbers a, rms norm gives a / sqrt(a^2 + eps): (a / y)^2 - a^2 is eps, wherever eps was put.
N tokens, flat · D model dim.   Read next: ops/norm.py, lab/checks/norm.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cutaway.lab.checks.norm import layer_norm_oracle, rms_norm_oracle
from cutaway.lab.swap.general import form_probes, sizes_told, sorted_sizes
from cutaway.lab.swap.part import Candidate, Part, Probe
from cutaway.lab.swap.sight import normal
from cutaway.lab.swap.trial import Trial, attempt, close
from cutaway.lab.swap.verdict import Case
from cutaway.ops.norm import layer_norm_readable, rms_norm_readable

SHAPES = ((1, 2), (1, 3), (2, 2), (3, 5), (2, 8), (2, 3, 4), (0, 4))
TINY = 1e-12
Norm = Callable[..., Tensor]  # (x, weight, eps) -> y, of either kind


def rms_trials(candidate: Candidate) -> Sequence[Callable[[], Case | None]]:
    made = []
    for eps, offset in ((1e-6, 0.0), (0.5, 0.0), (1e-6, 1.0)):
        for shape in SHAPES:
            inputs = {"x": normal(*shape, seed=1).double(), "weight": normal(shape[-1], seed=2).double()}
            made.append(_trial(rms_norm_oracle, rms_norm_readable, inputs, eps=eps, offset=offset))
    made.append(_trial(rms_norm_oracle, rms_norm_readable, _wide(), torch.bfloat16, eps=1e-6, offset=0.0))
    made.append(_trial(rms_norm_oracle, rms_norm_readable, _wide(300.0), torch.float16, eps=1e-6, offset=0.0))
    return [partial(attempt, one, candidate) for one in made]


def layer_trials(candidate: Candidate) -> Sequence[Callable[[], Case | None]]:
    made = []
    for eps in (1e-5, 0.5):
        for shape in SHAPES:
            for bias in (None, normal(shape[-1], seed=5).double()):
                inputs = {"x": normal(*shape, seed=1).double(), "weight": normal(shape[-1], seed=2).double()}
                made.append(_trial(layer_norm_oracle, layer_norm_readable, {**inputs, "bias": bias}, eps=eps))
    wide = {**_wide(), "bias": None}
    made.append(_trial(layer_norm_oracle, layer_norm_readable, wide, torch.bfloat16, eps=1e-5))
    return [partial(attempt, one, candidate) for one in made]


def _wide(size: float = 1.0) -> dict[str, Any]:
    return {"x": normal(3, 8, seed=1).double() * size, "weight": torch.linspace(0.5, 1.5, 8).double()}


def _trial(
    oracle: Callable[..., Any], smooth: Norm, inputs: dict[str, Any], dtype: torch.dtype = torch.float32, **options: Any
) -> Trial:
    def loops(*given: Any, **options: Any) -> Any:
        return oracle(*(one.numpy() if isinstance(one, Tensor) else one for one in given), **options)

    shape = tuple(inputs["x"].shape)
    said = ", ".join(f"{name}={value}" for name, value in options.items())
    learned = tuple(name for name, value in inputs.items() if value is not None) if dtype == torch.float32 else ()
    return Trial(
        what=f"x {shape}, {said}{'' if inputs.get('bias') is None else ', with bias'}",
        inputs=inputs,
        options=options,
        oracle=loops,
        smooth=smooth,
        learned=learned if shape[0] else (),
        dtype=dtype,
    )


def _rms(candidate: Candidate) -> Norm:
    return lambda x, weight, eps: candidate(x, weight, eps=eps, offset=0.0)


def _layer(candidate: Candidate) -> Norm:
    return lambda x, weight, eps: candidate(x, weight, None, eps=eps)


def _axis(candidate: Candidate, kind: Callable[[Candidate], Norm]) -> str | None:
    norm = kind(candidate)
    for shape, place in (((3, 4), (1,)), ((2, 3, 4), (0, 1))):
        x = normal(*shape, seed=1)
        other = x.clone()
        other[place] *= 3.0
        other[(*place, 0)] += 1.0
        changed = (norm(x, torch.ones(4), 1e-6) - norm(other, torch.ones(4), 1e-6)).abs().amax(-1) > 1e-5
        changed[place] = False
        if bool(changed.any()):
            said = "changing one token changes others: the mean runs over tokens, not over each token's own numbers"
            return said if len(shape) == 2 else f"where x has {len(shape)} axes, {said}"
    return None


def _mean(candidate: Candidate, kind: Callable[[Candidate], Norm], removed: bool) -> str | None:
    norm, x = kind(candidate), normal(2, 6, seed=2)
    same = close(norm(x + 2.0, torch.ones(6), 1e-6), norm(x, torch.ones(6), 1e-6), 1e-3)
    if same and not removed:
        return "the mean is subtracted: adding 2 to all numbers changes nothing, and in RMS norm it does"
    if removed:
        return None if same else "the mean is not subtracted: adding 2 to all numbers changes the answer"
    equal = float(norm(torch.full((1, 4), 3.0), torch.ones(4), 1e-6)[0, 0])
    if abs(equal) > 100.0:  # next to nothing below: only eps
        return "it divides by the deviation from the mean, a variance; RMS norm has the mean of squares below"
    return None


def _proportions(candidate: Candidate, kind: Callable[[Candidate], Norm]) -> str | None:
    """A token's numbers have one factor, and one number taken from them: differences keep their proportions."""
    for dim in (6, 8):
        # Whole numbers, which half precision holds too; that rounds the answers by less than a hundredth.
        x_D = torch.tensor([-3.0, 5.0, 1.0, -4.0, 2.0, -2.0, 7.0, -1.0])[:dim]
        y_D = kind(candidate)(x_D[None], torch.ones(dim), 1e-6)[0]
        factor_D = (y_D[1:] - y_D[0]) / (x_D[1:] - x_D[0])
        if not close(factor_D, factor_D[:1].expand_as(factor_D), 0.05 * float(factor_D.abs().max())):
            return f"the {dim} numbers of a token are not scaled alike: differences change their proportions"
    return None


def _unit(candidate: Candidate, kind: Callable[[Candidate], Norm]) -> str | None:
    norm = kind(candidate)
    for dim in (4, 6):
        x = normal(1, dim, seed=3)
        x = (x - x.mean()) / (x - x.mean()).square().mean().sqrt() * 2.0  # a mean square of 4, a mean of 0
        square = float(norm(x, torch.ones(dim), TINY).double().square().mean())
        if abs(square - 1.0) < 1e-3:
            continue
        for factor, said in (
            (1 / dim, "divided by the root of the sum, not of the mean"),
            ((dim - 1) / dim, "the unbiased variance (divided by D - 1), not the one divided by D"),
            (0.25, "the root is missing: divided by the mean square itself"),
            (4.0, "nothing is divided"),
            (float(x.square().mean() / x.abs().mean().square()), "divided by the mean of absolute values"),
            (float(x.square().mean() / x.abs().max().square()), "divided by the largest number"),
        ):
            if abs(square / factor - 1.0) < 1e-3:
                return said
        return f"the mean square of a normed row of {dim} is {square:.4g}, not 1"
    return None


def _eps(candidate: Candidate, kind: Callable[[Candidate], Norm]) -> str | None:
    """By rows (a, -a), whose mean is 0 and mean square a^2."""
    norm, found = kind(candidate), []
    for size, eps in ((1.0, 3.0), (2.0, 3.0), (1.0, 0.5)):
        row = torch.tensor([[size, -size]])
        base = float(norm(row, torch.ones(2), TINY)[0, 0])  # 1, unless the scale itself is wrong
        found.append((size, eps, size * base / float(norm(row, torch.ones(2), eps)[0, 0])))

    def is_like(rule: Callable[[float, float], float]) -> bool:
        return all(abs(below - rule(size, eps)) < 1e-3 * below for size, eps, below in found)

    if is_like(lambda size, eps: (size**2 + eps) ** 0.5):
        zeros = norm(torch.zeros(1, 4), torch.ones(4), 1e-6)
        return None if bool(zeros.isfinite().all()) else "a row of zeros gives NaN"
    rules = (
        (lambda size, eps: size, "eps is ignored"),
        (lambda size, eps: size + eps, "eps is added outside the root: sqrt(mean square) + eps"),
        (lambda size, eps: size + eps**0.5, "the root of eps is added outside the root"),
        (lambda size, eps: max(size, eps**0.5), "eps is a lower bound, not a summand"),
        (lambda size, eps: max(size, eps), "eps is a lower bound, not a summand"),
        (lambda size, eps: (size**2 + eps**2) ** 0.5, "eps is squared"),
        (lambda size, eps: (size**2 + 2 * eps) ** 0.5, "eps is added to every square and not once to their mean"),
        (lambda size, eps: (size**2 + eps / 2) ** 0.5, "eps is added to the sum, not to the mean"),
    )
    for rule, said in rules:
        if is_like(rule):
            return said
    size, eps, below = found[0]
    return (
        f"a row of {size:g} and -{size:g} with eps {eps:g} is divided by {below:.4g}, not {(size**2 + eps) ** 0.5:.4g}"
    )


def _weight(candidate: Candidate, kind: Callable[[Candidate], Norm]) -> str | None:
    norm, x, weight = kind(candidate), normal(2, 4, seed=4), torch.tensor([0.5, -1.0, 2.0, 1.5])
    plain, weighted, none = (norm(x, one, 1e-6) for one in (torch.ones(4), weight, torch.zeros(4)))
    if close(weighted, plain * weight, 1e-3):
        return None
    if close(weighted, plain, 1e-3):
        return "the weight is ignored"
    if close(weighted, norm(x * weight, torch.ones(4), 1e-6), 1e-3):
        return "the weight acts before the norm, not after it"
    if close(weighted, none + weight, 1e-3):
        return "the weight is added, not multiplied by"
    if _one_more(plain, none):
        return "1 is added to the weight: weights of zero do not give zeros"
    return "the answer is not the normed row times the weight"


def _one_more(plain: Tensor, none: Tensor) -> bool:
    """Whether weights of zero give the normed row, and ones twice that."""
    return float(none.abs().max()) > 1e-5 and close(plain, 2 * none, 1e-3)


def _offset(norm: Candidate) -> str | None:
    x, weight = normal(2, 4, seed=4), torch.tensor([0.5, -1.0, 2.0, 1.5])
    none = norm(x, torch.zeros(4), eps=1e-6, offset=0.0)
    if close(none, norm(x, weight, eps=1e-6, offset=0.0), 1e-3):
        return None  # the weight is ignored, which its own probe says
    if _one_more(norm(x, torch.ones(4), eps=1e-6, offset=0.0), none):
        return "1 is added to the weight, also where offset is 0: weights of zero do not give zeros"
    if float(none.abs().max()) > 1e-5:
        return None  # the weight itself comes in wrongly, which its own probe says
    plain, moved = norm(x, weight, eps=1e-6, offset=0.0), norm(x, weight, eps=1e-6, offset=1.0)
    if _weight(norm, _rms) is not None or close(moved, norm(x, weight + 1.0, eps=1e-6, offset=0.0), 1e-3):
        return None
    if close(moved, plain, 1e-3):
        return "`offset` is ignored: the weight is (offset + weight)"
    if close(moved, plain + 1.0, 1e-3):
        return "`offset` is added to the answer, not to the weight"
    return "offset=1 is not the same as weights that are 1 larger"


def _bias(norm: Candidate) -> str | None:
    x, weight, bias = normal(2, 4, seed=4), normal(4, seed=5), normal(4, seed=6)
    plain, added = norm(x, weight, None, eps=1e-5), norm(x, weight, bias, eps=1e-5)
    if close(added, plain + bias, 1e-3):
        return None
    return "the bias is ignored" if close(added, plain, 1e-3) else "the bias is not what is added to the answer"


def _overflow(candidate: Candidate, kind: Callable[[Candidate], Norm]) -> str | None:
    x = torch.tensor([[300.0, -400.0, 500.0, -400.0]])
    wide, got = kind(candidate)(x, torch.ones(4), 1e-6), kind(candidate)(x.half(), torch.ones(4).half(), 1e-6).float()
    return None if close(got, wide, 1e-2) else "squares of float16 numbers overflow: they belong in float32"


def _precision(candidate: Candidate, kind: Callable[[Candidate], Norm]) -> str | None:
    # Two numbers that are one in half precision, 2^-13 of the way from -1 to 1 apart: so they are in the answer too.
    y = kind(candidate)(torch.tensor([[-1.0, 1.0, 1 + 2.0**-12, 0.5]]), torch.ones(4), TINY)[0].double()
    share = float((y[2] - y[1]) / (y[1] - y[0])) * 2.0**13
    return None if 0.8 < share < 1.2 else "1 and 1.0002 come out as one number: x is rounded to half precision"


def _precise_weight(candidate: Candidate, kind: Callable[[Candidate], Norm]) -> str | None:
    weight = torch.full((4,), 1 + 2.0**-14)
    got = kind(candidate)(torch.tensor([[1.0, -1.0, 1.0, -1.0]]), weight, TINY).double().abs()
    error = float((got - weight.double()).abs().max())
    if 1e-5 < error < 0.02:
        return f"{float(weight[0]):.7f} comes out as {float(got[0, 0]):.7f}: the weight is rounded to half precision"
    return None


def _large_mean(norm: Candidate) -> str | None:
    x = normal(2, 8, seed=6) + 1000.0
    right = layer_norm_readable(x.double(), torch.ones(8).double(), None, eps=1e-5)
    if close(norm(x, torch.ones(8), None, eps=1e-5).double(), right, 5e-3):
        return None
    return "around a mean of 1,000 the variance is lost: take the mean out first, then square"


def _widths(candidate: Candidate, kind: Callable[[Candidate], Norm], ours: Candidate) -> str | None:
    def right(width: int) -> bool:
        x, weight = normal(2, width, seed=1), normal(width, seed=2)
        return close(kind(candidate)(x, weight, 1e-6), kind(ours)(x, weight, 1e-6))

    return sizes_told("widths", *sorted_sizes((1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 64, 65), right))


def _rms_call(norm: Candidate, dtype: torch.dtype = torch.float32) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (normal(3, 4).to(dtype), normal(4, seed=1).to(dtype)), {"eps": 1e-6, "offset": 0.0}


def _layer_call(norm: Candidate, dtype: torch.dtype = torch.float32) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (normal(3, 4).to(dtype), normal(4, seed=1).to(dtype), normal(4, seed=2).to(dtype)), {"eps": 1e-5}


def _shared(kind: Callable[[Candidate], Norm], ours: Candidate, removed: bool) -> tuple[Probe, ...]:
    return (
        Probe(property="axis", find=partial(_axis, kind=kind)),
        Probe(property="proportions", find=partial(_proportions, kind=kind)),
        Probe(property="precision", find=partial(_precision, kind=kind)),
        Probe(property="weight", find=partial(_weight, kind=kind)),
        Probe(property="precision", find=partial(_precise_weight, kind=kind)),
        Probe(property="widths", find=partial(_widths, kind=kind, ours=ours)),
        Probe(property="mean", find=partial(_mean, kind=kind, removed=removed)),
        Probe(property="scale", find=partial(_unit, kind=kind)),
        Probe(property="eps", find=partial(_eps, kind=kind)),
        Probe(property="large numbers in half precision", find=partial(_overflow, kind=kind)),
    )


RMS = Part(
    name="ops.rms_norm",
    about="RMS norm: each token's vector brought to unit mean square, then weighted",
    ours=rms_norm_readable,
    positional=2,
    named=("eps", "offset"),
    optional={},
    trials=rms_trials,
    probes=(
        *form_probes(_rms_call, rms_norm_readable, tensors=2, rows=1),
        Probe(property="weight offset", find=_offset),
        *_shared(_rms, rms_norm_readable, removed=False),
    ),
    place="rms_norm",
    bench=lambda: ((normal(128, 576), torch.ones(576)), {"eps": 1e-5, "offset": 0.0}),
)
LAYER = Part(
    name="ops.layer_norm",
    about="layer norm: each token's vector brought to mean 0 and deviation 1, then weighted and shifted",
    ours=layer_norm_readable,
    positional=3,
    named=("eps",),
    optional={},
    trials=layer_trials,
    probes=(
        *form_probes(_layer_call, layer_norm_readable, tensors=3, rows=1),
        Probe(property="bias", find=_bias),
        *_shared(_layer, layer_norm_readable, removed=True),
        Probe(property="large mean", find=_large_mean),
    ),
    place="layer_norm",
    bench=lambda: ((normal(128, 768), torch.ones(768), torch.zeros(768)), {"eps": 1e-5}),
)
