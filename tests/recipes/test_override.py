from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput, NotFound
from cutaway.recipes.table import VALUES, made
from cutaway.train.optimisers.lion import Lion


def test_knobs_and_places():
    recipe = made("nano", ["steps=60", "rate=0.01", "optimiser.rest.rate=5e-4", "task.model.blocks.*.feed.hidden=64"])
    assert recipe.steps == recipe.schedule.steps == 60 and recipe.optimiser.rate == 0.01
    assert recipe.optimiser.rest.rate == 5e-4 and {block.feed.hidden for block in recipe.task.model.blocks} == {64}
    assert made("nano", ["task.model.blocks.1.feed.hidden=64"]).task.model.blocks[1].feed.hidden == 64


def test_a_text_stays_a_text_and_a_value_goes_by_its_name():
    recipe = made("nano", ["corpus=123", "optimiser=Lion", "clip=none", "until=2.5", 'task.sampling.prompts=["雪"]'])
    assert recipe.task.corpus.path == "123" and recipe.optimiser == Lion()
    assert recipe.clip is None and recipe.until == 2.5 and recipe.task.sampling.prompts == ("雪",)
    assert made("shakespeare-char", ["until=1.88"]).until == 1.88
    assert made("shakespeare-char", ["until=none"]).until is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("stepz=3", r'recipe: stepz: there is no such field; did you mean "steps"'),
        ("optimizer.rate=1", r'did you mean "optimiser"'),
        ("optimiser.rite=1", r'recipe: optimiser\.rite: .* did you mean "rate"'),
        ("task.model.blocks.9.feed.hidden=1", "there are 4"),
        ("task.model.type=Encoder", "no such field"),
        ("steps=many", 'steps: takes a whole number, not "many"'),
        ("steps=1.5", "takes a whole number"),
        ("accumulate=much", "accumulate: Recipe takes int here, not text"),
        ("optimiser.rate=fast", r"optimiser\.rate: Muon takes float here"),
        ("seed=-1", "seed: must be from 0"),
        ("optimiser=Recipe", "needs the field"),
        ("schedule.warmup=100000", "leaves none"),
        ("steps", "write field=value"),
        ("=3", "write field=value"),
    ],
)
def test_what_does_not_fit_is_named(change, told):
    with pytest.raises(BadInput, match=told):
        made("nano", [change])


def test_an_unknown_recipe_is_answered_with_the_nearest():
    with pytest.raises(NotFound, match='did you mean "nano"'):
        made("nanoo")


def test_every_value_has_one_name():
    assert all(name == value.__name__ for name, value in VALUES.items())
