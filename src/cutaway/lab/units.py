"""Numbers as a person reads them, three figures with a unit: 12.3k, 4.29 GB, 1.25 ms.

Read next: lab/plot.py
"""

from __future__ import annotations


def counted(number: float) -> str:
    """A count: 512, 12.3k, 1.05M, 34.4G."""
    return _scaled(number, ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")))


def sized(count: float) -> str:
    """Bytes, decimal: 98 B, 2.05 kB, 17.2 GB."""
    return _scaled(count, ((1e12, " TB"), (1e9, " GB"), (1e6, " MB"), (1e3, " kB")), " B")


def timed(seconds: float) -> str:
    """Seconds: 0.8 µs, 1.25 ms, 3.4 s, 2 min 5 s."""
    if seconds >= 100:
        return f"{round(seconds) // 60} min {round(seconds) % 60} s"
    return _scaled(seconds, ((1.0, " s"), (1e-3, " ms"), (1e-6, " µs")), " s")


def _scaled(number: float, units: tuple[tuple[float, str], ...], plain: str = "") -> str:
    for size, unit in units:
        # What would be written as 1000 of a unit is written as 1 of the next.
        if abs(number) >= 0.9995 * size:
            return _three(number / size) + unit
    if number and units[-1][0] < 1:
        return _three(number / units[-1][0]) + units[-1][1]
    return _three(number) + plain


def _three(number: float) -> str:
    """Three figures, no zeros behind them that say nothing."""
    digits = 2 if abs(number) < 9.995 else 1 if abs(number) < 99.95 else 0
    text = f"{number:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
