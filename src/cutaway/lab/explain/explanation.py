"""What an explanation of a part consists of, and formulas with a real model's numbers put in.

Nothing here imports torch: costs are worked out when they are asked for.   Read next: lab/explain/table.py
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

SYMBOL = re.compile(r"\b[A-Z]\b")


@dataclass(frozen=True, kw_only=True)
class Formula:
    """`symbols` ("2·D·F") stands beside what the part's value answers itself, `result`; tests hold the two together.

    D model dim, V vocabulary, L blocks, H query heads, G kv heads, K head dim, F hidden dim, S tokens, P parameters.
    """

    what: str
    symbols: str
    result: int
    unit: str = ""

    def numbers(self, values: Mapping[str, int]) -> str:
        """The formula with numbers for its letters."""
        return SYMBOL.sub(lambda found: str(values[found[0]]), self.symbols)


@dataclass(frozen=True, kw_only=True)
class Table:
    """What is better looked up than told: as many cells in each row as heads; "" is an empty one."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One part, explained to someone who has not met it. `files` are relative to the package; the first implements it.

    `cost` gives formulas for smollm2-135m; `read_next` names other explanations; `aliases` are further names it has.
    """

    name: str
    title: str
    what: str
    equation: str
    papers: tuple[str, ...]
    files: tuple[str, ...]
    cost: Callable[[], tuple[Formula, ...]]
    read_next: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    table: Table | None = None
