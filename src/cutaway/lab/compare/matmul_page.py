"""How matrix products compared are shown: tables, and the roofline of this machine with a dot for each step.

    speed <= min(bandwidth * operations per byte of weights, matmul rate)        Williams et al. 2009, CACM 52(4)
Read next: lab/roofline.py, lab/compare/matmul.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cutaway.lab.compare.comparison import Measured, Table
from cutaway.lab.compare.matmul_cell import MACHINE
from cutaway.lab.compare.matmul_steps import STEPS
from cutaway.lab.page import Section, page
from cutaway.lab.roofline import Dot, Peak, roofline
from cutaway.lab.units import counted, sized, timed

DASH = "–"
NOTE = (
    "Operations: a multiplication and an addition for each weight and row. Reads: bytes of weights a second, as each "
    "step holds them. Of memory, of matmul: shares of what this machine was measured to read and to multiply at most, "
    "int8 steps by its int8 rate. Of its roof: the share of the smaller of the two limits. Gain: over the step above. "
    "Error: the largest, as a share of what rounding may come to. Times are the least of all calls."
)


@dataclass(frozen=True)
class Limits:
    """Bytes a second that memory gives, operations a second that products reach; None where it is not known."""

    bandwidth: float | None
    fp32: float | None
    int8: float | None

    @classmethod
    def of(cls, measured: Measured) -> Limits:
        found = measured.get(MACHINE, {})

        def most(*names: str) -> float | None:
            numbers = [_number(found.get(name)) for name in names]
            return max((one for one in numbers if one is not None), default=None)

        return cls(
            most("torch_sum", "read_loop"),
            most("torch_fp32", "registers_fp32"),
            most("torch_int8", "registers_int8"),
        )


@dataclass(frozen=True)
class Reached:
    """What a step came to with so many rows."""

    seconds: float
    operations: float
    bytes: float
    error: float

    @property
    def speed(self) -> float:
        """Operations a second."""
        return self.operations / self.seconds

    @property
    def reads(self) -> float:
        """Bytes of weights a second."""
        return self.bytes / self.seconds

    @property
    def intensity(self) -> float:
        """Operations for each byte."""
        return self.operations / self.bytes


def reached(measured: Measured, step: str, rows: int) -> Reached | None:
    """None where it was not measured."""
    found = measured.get(step, {}).get(str(rows))
    if not isinstance(found, dict):
        return None
    numbers = [_number(found.get(name)) for name in ("seconds", "operations", "bytes", "error")]
    seconds, operations, size, error = numbers
    if seconds is None or operations is None or size is None or error is None or not seconds > 0:
        return None
    return Reached(seconds, operations, size, error)


def tables(steps: Sequence[str], rows: Sequence[int], lacks: str | None, measured: Measured) -> tuple[Table, ...]:
    """The machine's limits, then a table for each number of rows."""
    limits = Limits.of(measured)
    made = [
        Table(title="What this machine can do", columns=("what", "by torch", "by C++ alone"), rows=_limits(measured))
    ]
    for count in rows:
        body, before = [], None
        for step in steps:
            found = reached(measured, step, count)
            body.append(_line(step, found, before, limits, lacks))
            before = found or before
        title = f"{count} row{'s' * (count != 1)} of activations"
        note = NOTE if count == rows[-1] else ""
        if lacks and count == rows[-1]:
            note = f"The steps in C++ are missing: {lacks}. {note}"
        columns = ("step", "time", "op/s", "reads", "of memory", "of matmul", "of its roof", "gain", "error")
        made.append(Table(title=title, columns=columns, rows=tuple(body), note=note))
    return tuple(made)


def _limits(measured: Measured) -> tuple[tuple[str, ...], ...]:
    found = measured.get(MACHINE, {})

    def read(name: str) -> str:
        rate = _number(found.get(name))
        return DASH if rate is None else f"{sized(rate)}/s"

    return (
        ("memory: bytes read", read("torch_sum"), read("read_loop")),
        *(
            (
                f"{kind}: operations",
                _rate(_number(found.get(f"torch_{kind}"))),
                _rate(_number(found.get(f"registers_{kind}"))),
            )
            for kind in ("fp32", "int8")
        ),
    )


def _line(
    step: str, found: Reached | None, before: Reached | None, limits: Limits, lacks: str | None
) -> tuple[str, ...]:
    if found is None:
        return (step, *(DASH,) * 7, "not here" if lacks and STEPS[step].native else DASH)
    rate = limits.int8 if STEPS[step].int8 else limits.fp32
    roof = _roof(found, limits.bandwidth, rate)
    return (
        step,
        timed(found.seconds),
        _rate(found.speed),
        f"{sized(found.reads)}/s",
        _share(found.reads, limits.bandwidth),
        _share(found.speed, rate),
        _share(found.speed, roof),
        DASH if before is None else f"{found.speed / before.speed:.3g}x",
        f"{found.error:.2f}",
    )


def whole(steps: Sequence[str], rows: Sequence[int], lacks: str | None, measured: Measured, lead: Sequence[str]) -> str:
    """The page: the picture, what the steps are, the tables."""
    limits = Limits.of(measured)
    dots = []
    for place, step in enumerate(STEPS):
        for at, count in enumerate(rows):
            found = reached(measured, step, count) if step in steps else None
            if found is not None:
                told = f"{step}, {count} row{'s' * (count != 1)}: {_rate(found.speed)}, {sized(found.reads)}/s"
                dots.append(
                    Dot(name=step, about=told, across=found.intensity, up=found.speed, place=place, hollow=at > 0)
                )
    peaks = [
        Peak(name=f"{name}, {_rate(rate)}", rate=rate)
        for name, rate in (("fp32", limits.fp32), ("int8", limits.int8))
        if rate is not None
    ]
    picture = roofline(dots, limits.bandwidth, peaks) if limits.bandwidth is not None else ""
    sections = []
    if picture:
        shapes = ", ".join(
            f"{'filled' if at == 0 else 'hollow'}: {count} row{'s' * (count != 1)}" for at, count in enumerate(rows)
        )
        note = (
            "Right is more arithmetic for each byte of weights, up is faster, both on a log scale. The slope is "
            "memory, the level lines are products: nothing that comes from memory can be above them. Fewer bytes a "
            f"weight move a dot to the right, and so do more rows; better code moves it up. Dots {shapes}."
        )
        sections.append(Section(title="The roofline", body=f'<div class="panel">{picture}</div>', note=note))
    new = tuple((step, STEPS[step].new, _bits(step)) for step in steps)
    told = Table(title="What is new in each step", columns=("step", "what is new", "bits a weight"), rows=new, words=2)
    sections += [told.section(), *(table.section() for table in tables(steps, rows, lacks, measured))]
    return page("From a loop to the packed kernel", lead, sections)


def _bits(step: str) -> str:
    return f"{8 * STEPS[step].bytes:g}"


def _roof(found: Reached, bandwidth: float | None, rate: float | None) -> float | None:
    return None if bandwidth is None or rate is None else min(bandwidth * found.intensity, rate)


def _share(part: float, of: float | None) -> str:
    if not of:
        return DASH
    share = 100 * part / of
    return f"{share:.0f}%" if share >= 0.95 else f"{share:.1g}%"


def _rate(rate: float | None) -> str:
    """30.1 Gop/s."""
    if rate is None:
        return DASH
    text = counted(rate)
    return f"{text[:-1]} {text[-1]}op/s" if text[-1].isalpha() else f"{text} op/s"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
