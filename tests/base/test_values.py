from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as some

from cutaway.base.errors import BadInput
from cutaway.base.values import from_plain, to_plain


class Mixer(Protocol):
    def build(self, dim: int) -> object: ...


@dataclass(frozen=True, kw_only=True)
class Turn:
    base: float = 10000.0
    layout: Literal["half", "pairs"] = "half"


@dataclass(frozen=True, kw_only=True)
class Query:
    heads: int
    rope: Turn | None = None
    causal: bool = True

    def __post_init__(self):
        if self.heads < 1:
            raise BadInput(f"at least one head, not {self.heads}", field="heads")
        if self.heads == 13:
            raise ValueError("thirteen")

    def build(self, dim: int) -> object:
        return dim


@dataclass(frozen=True, kw_only=True)
class Layer:
    mixer: Mixer
    note: str = ""
    widths: tuple[int, ...] = ()
    pair: tuple[int, float] = (1, 0.5)


@dataclass(frozen=True, kw_only=True)
class Stack:
    blocks: tuple[Layer, ...]
    derived: int = field(default=3, init=False)


TABLE = {made.__name__: made for made in (Turn, Query, Layer, Stack)}
GOOD = Stack(blocks=(Layer(mixer=Query(heads=2, rope=Turn()), note="é 中"), Layer(mixer=Query(heads=1), widths=(1, 2))))


def there_and_back(value):
    return from_plain(json.loads(json.dumps(to_plain(value), allow_nan=False)), TABLE)


def test_a_tree_of_values_comes_back_equal():
    assert there_and_back(GOOD) == GOOD
    assert to_plain(Turn(base=5.0)) == {"type": "Turn", "base": 5.0, "layout": "half"}


@given(
    some.builds(
        Layer,
        mixer=some.builds(
            Query,
            heads=some.integers(14, 99),
            rope=some.none() | some.builds(Turn, base=some.floats(allow_nan=False, allow_infinity=False)),
            causal=some.booleans(),
        ),
        note=some.text(some.characters(exclude_categories=["Cs"])),
        widths=some.lists(some.integers()).map(tuple),
    )
)
def test_any_value_comes_back_equal(value):
    assert there_and_back(value) == value


def broken(**changes):
    plain = to_plain(GOOD)
    plain["blocks"][1]["mixer"].update(changes)
    return plain


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (broken(type="Qery"), 'blocks.1.mixer: unknown type "Qery"; did you mean "Query"?'),
        (broken(head=3), 'blocks.1.mixer.head: Query has no field "head"; did you mean "heads"?'),
        (broken(heads="8"), "blocks.1.mixer.heads: Query takes int here, not text"),
        (broken(heads=True), "blocks.1.mixer.heads: Query takes int here, not a truth value"),
        (broken(heads=None), "blocks.1.mixer.heads: Query takes int here, not null"),
        (broken(heads=0), "blocks.1.mixer.heads: at least one head, not 0"),
        (broken(heads=13), "blocks.1.mixer: Query refuses this: thirteen"),
        (broken(rope={"base": 1}), 'blocks.1.mixer.rope: an object needs a "type"'),
        (broken(rope={"type": 5}), 'blocks.1.mixer.rope: an object needs a "type"'),
        (broken(rope={"type": "Query", "heads": 1}), "blocks.1.mixer.rope: Query takes"),
        (broken(rope={"type": "Turn", "layout": "third"}), "blocks.1.mixer.rope.layout: Turn takes Literal"),
        ({"type": "Query"}, 'Query needs the field "heads"'),
        ({"type": "Layer", "mixer": 3}, "mixer: Layer takes Mixer here, not 3"),
        ({"type": "Layer", "mixer": {"type": "Query", "heads": 1}, "widths": [1, "2"]}, "widths: Layer takes tuple"),
        ({"type": "Layer", "mixer": {"type": "Query", "heads": 1}, "pair": [1]}, "pair: Layer takes tuple"),
        ({"type": "Stack", "blocks": [], "derived": 4}, 'derived: Stack has no field "derived"'),
        ([], 'expected an object with a "type", not a list'),
        (None, 'expected an object with a "type", not null'),
    ],
)
def test_bad_data_is_one_line_that_names_the_place(data, expected):
    with pytest.raises(BadInput) as caught:
        from_plain(data, TABLE, source="model.json")
    assert str(caught.value).startswith(f"model.json: {expected}")
    assert "\n" not in str(caught.value)


def test_a_name_is_never_an_import_path():
    with pytest.raises(BadInput, match="unknown type"):
        from_plain({"type": "pathlib.Path"}, TABLE)


def test_a_hostile_depth_is_refused_before_the_stack_runs_out():
    data: list = []
    for _ in range(900):
        data = [data]
    with pytest.raises(BadInput, match="deeper"):
        from_plain({"type": "Stack", "blocks": data}, TABLE)


@dataclass(frozen=True)
class Tagged:
    type: str


@dataclass(frozen=True)
class Holder:
    inside: object


@pytest.mark.parametrize(
    "value",
    [Tagged("x"), Holder(float("nan")), Holder(float("inf")), Holder([1]), Holder({}), Holder({1}), 5, Turn, None],
)
def test_what_would_not_come_back_equal_is_refused(value):
    with pytest.raises(BadInput):
        to_plain(value)
