"""A tree of parts as a person wants to read it: lists dissolved into their members, equal members folded into one.

Thirty equal blocks become one branch, `blocks.0-29`; those of a Gemma, where every sixth differs, become two.
Read next: lab/anatomy.py, cli/drawing.py
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cutaway.lab.anatomy import Part


@dataclass(frozen=True, kw_only=True)
class Branch:
    """`alike` equal parts, of which `part` is the first; `copies` counts those of the branches above as well.

    Numbers are those of one part, but `share`, which is that of all copies.
    """

    label: str
    part: Part
    alike: int = 1
    copies: int = 1

    @property
    def share(self) -> float:
        return self.part.share * self.copies

    def branches(self, fold: bool = True) -> tuple[Branch, ...]:
        """What this one consists of."""
        return tuple(
            Branch(label=label, part=parts[0], alike=len(parts), copies=self.copies * len(parts))
            for label, parts in _members(self.part, "", fold)
        )


def trunk(part: Part, label: str) -> Branch:
    """Where a tree starts."""
    return Branch(label=label, part=part)


def _members(part: Part, before: str, fold: bool) -> Iterable[tuple[str, list[Part]]]:
    for child in part.children:
        label = f"{before}{child.name}"
        if not child.is_container:
            yield label, [child]
        elif child.kind == "ModuleList":
            for group in _groups(child.children, fold):
                yield f"{label}.{_ranges([int(one.name) for one in group])}", group
        else:
            yield from _members(child, f"{label}.", fold)


def _groups(parts: Iterable[Part], fold: bool) -> list[list[Part]]:
    """Equal parts together, in the order of the first of each."""
    groups: list[list[Part]] = []
    for part in parts:
        same = next((group for group in groups if fold and group[0].like(part)), None)
        if same is None:
            groups.append([part])
        else:
            same.append(part)
    return groups


def _ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 4] is "0-2,4"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
