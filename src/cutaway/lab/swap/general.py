"""Probes that hold for every function of tensors: its result's type, inputs left alone, the same answer twice, slopes.

Read next: lab/swap/part.py, lab/swap/attend.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor

from cutaway.lab.swap.part import Candidate, Probe
from cutaway.lab.swap.trial import close

Call = Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]  # (candidate, dtype) -> arguments and options of a call


def taking(candidate: Candidate, name: str) -> bool:
    """Whether it has an argument of that name, or takes any."""
    found = signature(candidate).parameters
    return name in found or any(one.kind is Parameter.VAR_KEYWORD for one in found.values())


def sizes_told(noun: str, wrong: Sequence[int], right: Sequence[int]) -> str | None:
    """Which sizes come out wrong where others are right, as a rule if there is one. A size of 1 forgives much."""
    if not wrong or not [size for size in right if size > 1]:
        return None
    if all(size % 2 for size in wrong) and all(size % 2 == 0 or size == 1 for size in right):
        return f"odd {noun} come out wrong, even ones right"
    for block in (3, 4, 8, 16, 32, 64, 128):
        whole = [size for size in right if size % block == 0]
        if whole and all(size % block for size in wrong) and all(size < block for size in right if size not in whole):
            return f"{noun} that are no multiple of {block} come out wrong: the last, shorter block"
    if min(wrong) > max(right):
        return f"{noun} of {min(wrong)} and more come out wrong, shorter ones right"
    return f"{noun} of {', '.join(map(str, wrong))} come out wrong, others right"


def sorted_sizes(sizes: Iterable[int], good: Callable[[int], bool]) -> tuple[list[int], list[int]]:
    """(wrong, right); what raises is wrong."""
    wrong, right = [], []
    for size in sizes:
        try:
            held = good(size)
        except Exception:
            held = False
        (right if held else wrong).append(size)
    return wrong, right


def form_probes(call: Call, ours: Candidate, *, tensors: int, rows: int = 0) -> tuple[Probe, ...]:
    """For a function whose first `tensors` arguments are tensors, which it may read and not change. The first `rows` of
    them have a row for each token, and tokens do not know of each other; 0 where they do."""
    lengths = (Probe(property="lengths", find=partial(_lengths, call=call, ours=ours, rows=rows)),) if rows else ()
    return (
        Probe(property="in-place change of an input", find=partial(_unchanged, call=call, ours=ours)),
        Probe(property="shape", find=partial(_shape, call=call, ours=ours)),
        Probe(property="dtype", find=partial(_dtype, call=call)),
        Probe(property="same answer twice", find=partial(_repeats, call=call)),
        Probe(property="gradient", find=partial(_slope, call=call, ours=ours, tensors=tensors)),
        *lengths,
    )


def _lengths(candidate: Candidate, *, call: Call, ours: Candidate, rows: int) -> str | None:
    arguments, options = call(candidate, torch.float32)

    def right(tokens: int) -> bool:
        given = [torch.cat([one] * 12)[:tokens] for one in arguments[:rows]]
        with torch.no_grad():
            mine, wanted = (one(*given, *arguments[rows:], **options) for one in (candidate, ours))
        return close(mine, wanted)

    return sizes_told("numbers of tokens", *sorted_sizes((1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 32, 33), right))


def _run(candidate: Candidate, call: Call, dtype: torch.dtype = torch.float32) -> Any:
    arguments, options = call(candidate, dtype)
    with torch.no_grad():
        return candidate(*arguments, **options)


def _unchanged(candidate: Candidate, *, call: Call, ours: Candidate) -> str | None:
    names = list(signature(ours).parameters)
    arguments, options = call(candidate, torch.float32)
    before = [one.clone() if isinstance(one, Tensor) else None for one in arguments]
    with torch.no_grad():
        candidate(*arguments, **options)
    for name, one, old in zip(names, arguments, before, strict=False):
        if old is not None and not torch.equal(one, old):
            return f"`{name}` is changed by the call: whoever handed it over still needs it"
    return None


def _shape(candidate: Candidate, *, call: Call, ours: Candidate) -> str | None:
    got, right = _run(candidate, call), _run(ours, call)
    if not isinstance(got, Tensor):
        return f"gives a {type(got).__name__}, not a tensor"
    if got.shape == right.shape:
        return None
    return f"gives the shape {tuple(got.shape)}, and should {tuple(right.shape)}"


def _dtype(candidate: Candidate, *, call: Call) -> str | None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        try:
            got = _run(candidate, call, dtype)
        except Exception as error:
            return f"inputs in {dtype} end in {type(error).__name__}: {error}"
        if isinstance(got, Tensor) and got.dtype != dtype:
            return f"inputs in {dtype} give an answer in {got.dtype}"
    return None


def _repeats(candidate: Candidate, *, call: Call) -> str | None:
    one, other = _run(candidate, call), _run(candidate, call)
    return None if close(one, other, 1e-5) else "the same call twice gives two answers"


def _slope(candidate: Candidate, *, call: Call, ours: Candidate, tensors: int) -> str | None:
    """Only where the answer itself is right: the gradient of a wrong one is no fault of its own."""
    if not close(_run(candidate, call), _run(ours, call)):
        return None
    names, found = list(signature(ours).parameters), []
    for function in (candidate, ours):
        arguments, options = call(function, torch.float32)
        leaves = [one.requires_grad_() if isinstance(one, Tensor) else one for one in arguments[:tensors]]
        handed = [one * 1 if isinstance(one, Tensor) else one for one in leaves]
        got = function(*handed, *arguments[tensors:], **options)
        if not got.requires_grad:
            return "the answer has no gradient: it was detached, or made of plain numbers"
        weight = torch.linspace(-1.0, 1.0, got.numel()).reshape(got.shape)
        wanted = [one for one in leaves if isinstance(one, Tensor)]
        found.append(torch.autograd.grad((got * weight).sum(), wanted, allow_unused=True))
    named = [name for name, one in zip(names, leaves, strict=False) if isinstance(one, Tensor)]
    for name, got, right in zip(named, *found, strict=True):
        if got is None and right is not None and bool(right.abs().max() > 0):
            return f"there is no gradient for `{name}`"
        if got is not None and right is not None and not close(got, right, 1e-3):
            return f"the answer is right, the gradient for `{name}` is not"
    return None
