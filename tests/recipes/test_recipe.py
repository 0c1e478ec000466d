from __future__ import annotations

from typing import get_args, get_type_hints

from cutaway.ops.choice import ATTEND
from cutaway.recipes.recipe import Recipe


def test_a_recipe_takes_every_form_of_attention_that_there_is():
    kinds, nothing = get_args(get_type_hints(Recipe)["attend"])
    assert set(get_args(kinds)) == set(ATTEND) and nothing is type(None)
