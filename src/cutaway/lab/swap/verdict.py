"""What the judge says of a reader's part: one value, for a person and as JSON.

Read next: lab/swap/judge.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal[
    "passes",
    "fails",  # it answers, and wrongly
    "not written",
    "raises",
    "signature",
    "missing",  # the file has no such function
    "unreadable",  # the file cannot be run
    "time",
    "memory",
    "exits",
    "crashes",
]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One call that went wrong: what was handed over, what came back, what should have."""

    what: str
    place: str = ""
    got: str = ""
    expected: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`broke` and `why`: the property that did, if a probe found it; `others`: what else did. `trace`: the reader's own
    lines."""

    part: str
    outcome: Outcome
    message: str = ""
    broke: str | None = None
    why: str = ""
    others: tuple[str, ...] = ()
    case: Case | None = None
    trace: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.outcome == "passes"

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        case = None if self.case is None else {**vars(self.case), "inputs": dict(self.case.inputs)}
        rest = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        rest["property"] = rest.pop("broke")
        return {**rest, "passed": self.passed, "case": case}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Verdict:
        """From what `plain` gave."""
        values = {name: value for name, value in plain.items() if name not in ("passed", "property")}
        values["broke"] = plain.get("property")
        values["case"] = None if plain.get("case") is None else Case(**plain["case"])
        for name in ("others", "trace", "notes"):
            values[name] = tuple(plain.get(name, ()))
        return cls(**values)
