from __future__ import annotations

from itertools import islice

import pytest

from cutaway.base.errors import BadInput
from cutaway.data.batches import Batches
from cutaway.data.documents import Held
from cutaway.data.mixture import Mixture, tempered
from cutaway.data.packing import Streamed, Windows

SETS = {
    "small": Held([range(30), range(30, 50)]),
    "large": Held([range(1000, 1400), [], range(1400, 1600)]),
    "middle": Held([range(5000, 5180)]),
}


def mixture(order=Streamed, seed=1, **told) -> Mixture:
    return Mixture({name: order(one, length=5, seed=3) for name, one in SETS.items()}, seed=seed, **told)


def test_temperature_goes_from_what_there_is_to_all_alike():
    assert tempered([100, 300], 1.0) == pytest.approx((0.25, 0.75))
    assert tempered([100, 400], 2.0) == pytest.approx((1 / 3, 2 / 3))
    assert tempered([1, 10**9], 1e9) == pytest.approx((0.5, 0.5))
    assert tempered([0, 5], 3.0) == (0.0, 1.0)
    assert tempered([1, 10**12], 0.01) == pytest.approx((0.0, 1.0))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, {"small": 50 / 830, "large": 600 / 830, "middle": 180 / 830}),
        ({"temperature": 3.0}, dict(zip(SETS, tempered([50, 600, 180], 3.0), strict=True))),
        ({"weights": {"large": 1, "small": 3, "middle": 0}}, {"small": 0.75, "large": 0.25, "middle": 0.0}),
    ],
)
def test_rows_are_drawn_in_the_shares_that_were_asked_for(told, expected):
    mixed = mixture(**told)
    assert mixed.weights == pytest.approx(expected)
    mixed.take(20_000)
    for name, share in mixed.shares().items():
        # 5 standard deviations of a share of 20,000 draws
        assert abs(share - expected[name]) <= 5 * (expected[name] * (1 - expected[name]) / 20_000) ** 0.5
    assert sum(mixed.drawn.values()) == 20_000


@pytest.mark.parametrize("order", [Streamed, Windows])
def test_each_row_is_the_next_of_its_corpus(order):
    alone = {name: order(one, length=5, seed=3) for name, one in SETS.items()}
    mixed, seen = mixture(order), set()
    for row in mixed.take(200):
        tokens = [token for piece in row for token in mixed.documents.read(*piece).tolist()]
        name = "small" if tokens[0] < 1000 else "large" if tokens[0] < 5000 else "middle"
        expected = alone[name].take(1)[0]
        assert tokens == [token for piece in expected for token in alone[name].documents.read(*piece).tolist()]
        seen.add(name)
    assert seen == set(SETS)


def test_the_seed_decides_and_a_draw_does_not_depend_on_how_many_are_taken_at_once():
    first, second = mixture(), mixture()
    rows = first.take(60)
    assert rows == [row for _ in range(20) for row in second.take(3)]
    assert mixture(seed=2).take(60) != rows


def test_going_on_from_any_point_is_the_same_as_never_stopping():
    batches = Batches(mixture(), count=2)
    whole, whole_state = [batch.ids_N.tolist() for batch in islice(batches, 12)], batches.state()
    for stop in range(12):
        first, second = Batches(mixture(), count=2), Batches(mixture(), count=2)
        list(islice(first, stop))
        second.restore(first.state())
        assert [batch.ids_N.tolist() for batch in islice(second, 12 - stop)] == whole[stop:]
        assert second.state() == whole_state


def test_a_state_of_another_mixture_is_refused_and_changes_nothing():
    mixed = mixture()
    mixed.take(5)
    before = mixed.state()
    broken = {**before, "of": {**before["of"], "middle": {**before["of"]["middle"], "seed": 99}}}
    for state, field in [
        ({**before, "weights": {"small": 1.0}}, "weights"),
        ({**before, "seed": 5}, "seed"),
        ({**before, "drawn": None}, "drawn"),
        ({**before, "drawn": {**before["drawn"], "middle": "3"}}, "middle: must be a whole number"),
        (broken, "seed"),
    ]:
        with pytest.raises(BadInput, match=field):
            mixed.restore(state)
        assert mixed.state() == before


def test_what_cannot_be_is_refused():
    with pytest.raises(BadInput, match="rows of one length"):
        Mixture({"a": Streamed(SETS["small"], length=4), "b": Streamed(SETS["small"], length=5)})
    with pytest.raises(BadInput, match="weights: must name each corpus"):
        mixture(weights={"small": 1})
    with pytest.raises(BadInput, match=r"weights.small: must be at least 0"):
        mixture(weights={"small": -1, "large": 1, "middle": 1})
    with pytest.raises(BadInput, match="weights: are all 0"):
        mixture(weights={"small": 0, "large": 0, "middle": 0})
    with pytest.raises(BadInput, match="temperature"):
        mixture(temperature=0)
    ending = Mixture({"a": Streamed(SETS["small"], length=5, epochs=1)})
    with pytest.raises(BadInput, match="a: has come to its end"):
        ending.take(11)
