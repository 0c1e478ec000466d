from __future__ import annotations

import json

from cutaway.cli.main import main
from cutaway.recipes.listing import RECIPES


def test_every_recipe_has_a_line_and_a_time(capsys):
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    assert all(one.name in out and one.about[:20] in out and one.takes in out for one in RECIPES.values())


def test_as_json(capsys):
    assert main(["recipes", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == list(RECIPES)
