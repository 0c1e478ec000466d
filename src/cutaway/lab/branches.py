"""A tree of parts as a person wants to read it: lists dissolved into their members, equal members folded into one.

Thirty equal blocks become one branch, `blocks.0-29`; those of a Gemma, where every sixth differs, become two. A branch
that stands beside a similar one (blocks.5 beside blocks.0) can be told by what differs alone.
Read next: lab/anatomy.py, cli/drawing.py
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from cutaway.lab.anatomy import Part


@dataclass(frozen=True, kw_only=True)
class Branch:
    """`alike` equal parts, of which `part` is the first; `copies` counts those of the branches above as well.

    Numbers are those of one part, but `share`, which is that of all copies. `beside`: a similar part shown before.
    """

    label: str
    part: Part
    alike: int = 1
    copies: int = 1
    beside: Part | None = None

    @property
    def share(self) -> float:
        return self.part.share * self.copies

    @property
    def note(self) -> str:
        """How many are alike, and in which fields their value differs from the one beside."""
        count = f"{self.alike} alike" if self.alike > 1 else ""
        changed = "" if self.beside is None else difference(self.part.value, self.beside.value)
        return ", ".join(filter(None, (count, changed)))

    def branches(self, *, fold: bool = True, brief: bool = False) -> tuple[Branch, ...]:
        """What this one consists of. `brief`: beside a similar part, only what differs from it."""
        found = []
        for label, parts, first in _members(self.part, "", fold):
            beside = first
            if first is None and self.beside is not None:
                beside = next((one for one in self.beside.everything() if _same_place(one, parts[0], self)), None)
                if brief and beside is not None and parts[0].like(beside):
                    continue
            found.append(
                Branch(label=label, part=parts[0], alike=len(parts), copies=self.copies * len(parts), beside=beside)
            )
        return tuple(found)


def trunk(part: Part, label: str) -> Branch:
    """Where a tree starts."""
    return Branch(label=label, part=part)


def difference(value: Any, other: Any) -> str:
    """The plain fields in which two values of a kind differ, as the first has them: `window=None`."""
    if value is None or type(value) is not type(other):
        return ""
    pairs = [(field.name, getattr(value, field.name), getattr(other, field.name)) for field in fields(value)]
    plain = (type(None), bool, int, float, str)
    return ", ".join(f"{name}={a}" for name, a, b in pairs if a != b and isinstance(a, plain) and isinstance(b, plain))


def _same_place(one: Part, part: Part, branch: Branch) -> bool:
    """Whether `one`, below what the branch stands beside, is where `part` is below the branch."""
    assert branch.beside is not None
    return one.path.removeprefix(branch.beside.path) == part.path.removeprefix(branch.part.path)


def _members(part: Part, before: str, fold: bool) -> Iterable[tuple[str, list[Part], Part | None]]:
    """Label, equal parts, and the first member of their list if that is another."""
    for child in part.children:
        label = f"{before}{child.name}"
        if not child.is_container:
            yield label, [child], None
        elif child.kind == "ModuleList":
            groups = _groups(child.children, fold)
            for group in groups:
                first = groups[0][0]
                beside = first if fold and group[0] is not first else None
                yield f"{label}.{_ranges([int(one.name) for one in group])}", group, beside
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
