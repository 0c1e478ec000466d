"""What became of the documents: how many were kept, how many were left out, why, and where the first of each was.

Read next: data/cleaning.py, data/duplicates.py
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cutaway.data.entry import Entry


@dataclass
class Tally:
    """`dropped` and `first`: by reason. `changed`: documents that cleaning made other than they were."""

    read: int = 0
    changed: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def drop(self, entry: Entry, reason: str, note: str = "") -> None:
        """One document less; `note` says more about this one than the reason."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self.first.setdefault(reason, f"{entry.source}:{entry.place}{f' ({note})' if note else ''}")

    @property
    def kept(self) -> int:
        return self.read - sum(self.dropped.values())

    def lines(self) -> list[str]:
        """One line for each reason, for a person."""
        return [f"{count:,} {reason}, the first {self.first[reason]}" for reason, count in self.dropped.items()]
