"""Examples that are made up by a rule: words to be written backwards, dates to be written the one right way.

    reverse: winter -> retniw        date: March 3rd, 1998 -> 1998-03-03        (3/12/1998 is a day of December)
Read next: recipes/transduce.py
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from cutaway.base.errors import BadInput

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
LETTERS = "abcdefghijklmnopqrstuvwxyz"

Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Invented:
    """`count` examples for training and `held` others; words of at most `longest` letters."""

    count: int = 50_000
    held: int = 500
    longest: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.held < 1 or self.longest < 3:
            raise BadInput("needs examples of both kinds, and words of 3 letters or more", field="Invented")

    def read(self) -> tuple[list[Pair], list[Pair]]:
        """(training, validation); no source is in both."""
        draw, seen, pairs = random.Random(self.seed), set(), []
        while len(pairs) < self.count + self.held:
            pair = backwards(draw, self.longest) if draw.random() < 0.5 else dated(draw)
            if pair[0] not in seen:
                seen.add(pair[0])
                pairs.append(pair)
        return pairs[self.held :], pairs[: self.held]


def backwards(draw: random.Random, longest: int) -> Pair:
    word = "".join(draw.choice(LETTERS) for _ in range(draw.randint(3, longest)))
    return f"reverse: {word}", word[::-1]


def dated(draw: random.Random) -> Pair:
    year, month = draw.randint(1900, 2099), draw.randint(1, 12)
    day = draw.randint(1, DAYS[month - 1])
    name = MONTHS[month - 1]
    ending = "th" if 10 < day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    spelled = draw.choice(
        (
            f"{day} {name} {year}",
            f"{day} {name[:3]} {year}",
            f"{name} {day}{ending}, {year}",
            f"{name[:3]} {day}, {year}",
            f"{day}/{month}/{year}",
            f"{year}.{month}.{day}",
        )
    )
    return f"date: {spelled}", f"{year}-{month:02}-{day:02}"
