"""The tensors of one module as they are held, and what numbers are in them, read slab by slab.

A tensor may be plain (f32, bf16 ...) or packed in blocks (q4_1 ...). Either way its numbers come as float32 slabs of a
few megabytes, so that a model far larger than the free memory can be looked through.
Departure: mean and deviation are those of the finite numbers; NaN and infinities are counted aside.
Read next: lab/anatomy.py, ops/blocks/format.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.packed import Packed

SLAB = 1 << 20
"""Numbers unpacked at a time: 4 MB of float32."""

DTYPES = {torch.float64: "f64", torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


@dataclass(frozen=True, kw_only=True)
class Held:
    """One tensor of a module. `learned`: a parameter (of the model), not a buffer (what it measured or computed).

    `shape` is that of the numbers, whatever they are packed in; `bytes` is what they take in memory.
    """

    name: str
    shape: tuple[int, ...]
    format: str
    bytes: int
    learned: bool
    slabs: Callable[[], Iterator[Tensor]]

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of the finite numbers of a tensor: mean, deviation (divided by their count), smallest, largest."""

    count: int
    mean: float
    deviation: float
    least: float
    most: float
    nan: int = 0
    infinite: int = 0


def held(module: nn.Module) -> tuple[Held, ...]:
    """The tensors that a module itself holds, not those of its parts. A packed matrix is its owner's weight."""
    named = [*module._parameters.items(), *module._buffers.items()]
    plain = tuple(_plain(name, tensor) for name, tensor in named if tensor is not None and tensor.numel())
    packed = getattr(module, "packed", None)
    return (_packed(packed), *plain) if isinstance(packed, Packed) else plain


def _packed(packed: Packed) -> Held:
    rows = max(1, SLAB // packed.shape[1])
    return Held(
        name="weight",
        shape=tuple(packed.shape),
        format=packed.format.name,
        bytes=packed.blocks.nbytes,
        learned=True,
        slabs=lambda: (dequantise(slab, packed.format) for slab in packed.blocks.split(rows)),
    )


def _plain(name: str, tensor: Tensor) -> Held:
    def slabs() -> Iterator[Tensor]:
        for slab in tensor.detach().reshape(-1).split(SLAB):
            yield slab.float()

    return Held(
        name=name,
        shape=tuple(tensor.shape),
        format=DTYPES.get(tensor.dtype, str(tensor.dtype).removeprefix("torch.")),
        bytes=tensor.nbytes,
        learned=isinstance(tensor, nn.Parameter),
        slabs=slabs,
    )


def statistics(slabs: Iterable[Tensor]) -> Statistics:
    """Mean and deviation are merged slab by slab in float64 (Chan, Golub and LeVeque 1979), so none of them is lost to
    cancellation. A tensor without finite numbers has mean, deviation, least and most NaN."""
    count = nan = infinite = 0
    mean = squares = 0.0
    least, most = math.inf, -math.inf
    for slab in slabs:
        wide = slab.reshape(-1).double()
        finite = wide.isfinite()
        if not bool(finite.all()):
            bad = int(wide.isnan().sum())
            nan, infinite = nan + bad, infinite + int((~finite).sum()) - bad
            wide = wide[finite]
        if not wide.numel():
            continue
        added, centre = wide.numel(), float(wide.mean())
        away, total = centre - mean, count + added
        squares += float((wide - centre).square().sum()) + away * away * count * added / total
        mean += away * added / total
        count, least, most = total, min(least, float(wide.min())), max(most, float(wide.max()))
    if count == 0:
        mean = least = most = squares = math.nan
    return Statistics(
        count=count + nan + infinite,
        mean=mean,
        deviation=math.sqrt(squares / count) if count else math.nan,
        least=least,
        most=most,
        nan=nan,
        infinite=infinite,
    )


@dataclass(frozen=True, kw_only=True)
class Faults:
    """How many numbers of a tensor are not finite."""

    nan: int = 0
    infinite: int = 0

    def __bool__(self) -> bool:
        return bool(self.nan or self.infinite)


def faults(slabs: Iterable[Tensor]) -> Faults:
    """Counts what is not finite, in one pass over sound slabs."""
    nan = infinite = 0
    for slab in slabs:
        # Zero times a number is zero unless it is NaN or infinite: one sum says whether a closer look is needed.
        if not math.isfinite(float((slab * 0).sum())):
            bad = int(slab.isnan().sum())
            nan, infinite = nan + bad, infinite + int((~slab.isfinite()).sum()) - bad
    return Faults(nan=nan, infinite=infinite)


def tensors(module: nn.Module) -> Iterator[tuple[str, Held]]:
    """Every tensor of a model by its path (`blocks.3.mixer.query.weight`)."""
    for path, part in module.named_modules():
        for tensor in () if isinstance(part, Packed) else held(part):
            yield f"{path}.{tensor.name}".lstrip("."), tensor
