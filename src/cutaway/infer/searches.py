"""Ways to an answer that look at more than one token at a time: values that `Language.search` takes.

  BeamSearch         the likeliest answers, by keeping several beginnings; with groups, answers that differ
  ContrastiveSearch  one answer that is likely and repeats little
  BestOf             several answers drawn, the likeliest by the token first
No tensors.   Read next: infer/searching.py, infer/beams.py, infer/contrastive.py
"""

from __future__ import annotations

from dataclasses import dataclass

from cutaway.base.errors import BadInput
from cutaway.infer.beams import Beams, Early


@dataclass(frozen=True, kw_only=True)
class BeamSearch:
    """`width` beginnings in all, `width / groups` in each of `groups`; `length_penalty` and `early` as in
    infer/beams.py; `diversity`: nats that a token costs for each beginning of an earlier group that has taken it."""

    width: int = 4
    groups: int = 1
    diversity: float = 0.0
    length_penalty: float = 1.0
    early: Early = False

    def __post_init__(self) -> None:
        _whole(self, "width", "groups")
        if self.width % self.groups:
            raise BadInput(f"{self.groups} do not share {self.width} beginnings evenly", field="groups")
        if self.groups == 1 and self.diversity:
            raise BadInput("one group has none to differ from", field="diversity")
        if not 0.0 <= self.diversity < float("inf"):
            raise BadInput(f"must be 0 or more, is {self.diversity}", field="diversity")
        if not abs(self.length_penalty) <= 100:
            raise BadInput(f"must be from -100 to 100, is {self.length_penalty}", field="length_penalty")
        if self.early not in (False, True, "never"):
            raise BadInput(f'must be False, True or "never", is {self.early!r}', field="early")

    def begin(self, most: int, ends: frozenset[int]) -> list[Beams]:
        """The search of each group for one source's target of at most `most` tokens, in their order."""
        groups: list[Beams] = []
        for _ in range(self.groups):
            groups.append(
                Beams(
                    width=self.width // self.groups,
                    ends=ends,
                    most=most,
                    penalty=self.length_penalty,
                    early=self.early,
                    after=groups,
                    diversity=self.diversity,
                )
            )
        return groups


@dataclass(frozen=True, kw_only=True)
class ContrastiveSearch:
    """`top_k` candidates a step; `alpha`: how much repeating counts against likelihood, 0 to 1."""

    top_k: int = 4
    alpha: float = 0.6

    def __post_init__(self) -> None:
        _whole(self, "top_k")
        if not 0.0 <= self.alpha <= 1.0:
            raise BadInput(f"must be in [0, 1], is {self.alpha}", field="alpha")


@dataclass(frozen=True, kw_only=True)
class BestOf:
    """`count` answers, drawn one after the other from seeds that follow that of the decoding."""

    count: int = 4

    def __post_init__(self) -> None:
        _whole(self, "count")


Search = BeamSearch | ContrastiveSearch | BestOf


def _whole(value: Search, *names: str) -> None:
    for name in names:
        number = getattr(value, name)
        if type(number) is not int or number < 1:
            raise BadInput(f"must be a whole number, at least 1, is {number!r}", field=name)
