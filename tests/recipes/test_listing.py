from __future__ import annotations

import subprocess
import sys

import pytest

from cutaway.base.values import from_plain, to_plain
from cutaway.recipes.listing import RECIPES
from cutaway.recipes.table import VALUES, made


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_goes_through_json_and_says_what_it_is(name):
    recipe = made(name)
    assert from_plain(to_plain(recipe), VALUES) == recipe
    assert recipe.about and RECIPES[name].about and RECIPES[name].takes


def test_the_list_imports_no_torch():
    code = "import sys, cutaway.recipes.listing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
