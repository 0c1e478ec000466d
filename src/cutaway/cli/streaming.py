"""Pieces of an answer on their way to a person, and how fast they came.

Read next: infer/answer.py
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cutaway.infer.answer import Piece


@dataclass(kw_only=True)
class Reading:
    """What has come so far: pieces, and seconds from the request to the first and to the last of them."""

    pieces: list[Piece] = field(default_factory=list)
    first: float = 0.0
    last: float = 0.0

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def rate(self) -> float | None:
        """Tokens per second after the first, which waits for the prompt to be read; None before there are two."""
        count, seconds = len(self.pieces) - 1, self.last - self.first
        return count / seconds if count > 0 and seconds > 0 else None

    @property
    def usage(self) -> str:
        """One line: how many tokens, how fast, and how long the first took."""
        count = len(self.pieces)
        rate = f", {self.rate:.1f} tokens/s" if self.rate is not None else ""
        return f"{count} token{'' if count == 1 else 's'}{rate}, the first after {self.first:.2f} s"

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "text": self.text,
            "tokens": [piece.token for piece in self.pieces],
            "logprobs": [piece.logprob for piece in self.pieces],
            "finish_reason": self.pieces[-1].finish_reason if self.pieces else "length",
            "timing": {
                "seconds_to_first_token": self.first,
                "seconds": self.last,
                "tokens_per_second": self.rate,
            },
        }


def follow(pieces: Callable[[], Iterator[Piece]], show: Callable[[str], None], reading: Reading) -> None:
    """Ask for the pieces, show the text of each as it comes, and keep them in `reading`.

    An interruption leaves in `reading` what had come; the clock starts before the prompt is read.
    """
    start = time.perf_counter()
    for piece in pieces():
        reading.last = time.perf_counter() - start
        if not reading.pieces:
            reading.first = reading.last
        reading.pieces.append(piece)
        if piece.text:
            show(piece.text)
