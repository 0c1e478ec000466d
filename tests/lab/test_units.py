from __future__ import annotations

import pytest

from cutaway.lab.units import counted, sized, timed


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (512, "512"), (999, "999"), (999.7, "1k"), (2048, "2.05k"), (65_536, "65.5k"), (1_048_576, "1.05M")],
)
def test_counts(number, text):
    assert counted(number) == text


def test_sizes_and_times():
    assert [sized(one) for one in (0, 98, 2048, 17_179_869_184)] == ["0 B", "98 B", "2.05 kB", "17.2 GB"]
    told = [timed(one) for one in (0.0, 8e-7, 0.00125, 0.9999, 3.4, 99.4, 125.2)]
    assert told == ["0 s", "0.8 µs", "1.25 ms", "1 s", "3.4 s", "99.4 s", "2 min 5 s"]
