from __future__ import annotations

from dataclasses import replace

import pytest

from cutaway.base.errors import BadInput
from cutaway.base.values import from_plain, to_plain
from cutaway.lab.compare.kinds import VALUES
from cutaway.lab.compare.short import SHORT
from cutaway.lab.compare.stretched import VARIANTS
from cutaway.lab.compare.subject import Subject, subject, trained_length
from cutaway.lab.explain.example import SMOLLM2
from cutaway.recipes.nano import nano
from cutaway.train.run import Run

SMALL = subject("small", SHORT["small"](512), 128)


def test_what_is_read_where_nobody_says_otherwise():
    """Small models far beyond their length, large ones an eighth, and never more than is trained within a window."""
    assert (SMALL.context, SMALL.lengths, SMALL.passages, SMALL.window) == (1024, (128, 256, 512, 1024), 16, 64)
    large = subject("large", SMOLLM2, 8192)
    assert (large.context, large.lengths, large.passages, large.window) == (9216, (2048, 9216), 1, 1024)
    assert large.variants == tuple(VARIANTS)
    assert subject("small-alibi", SHORT["small-alibi"](512), 128).variants == ("as-is", "window", "window+sinks")
    told = subject("small", SHORT["small"](512), 128, context=300, lengths=(200, 300), variants=("yarn",), sinks=None)
    assert (told.context, told.lengths, told.variants, told.sinks) == (300, (200, 300), ("yarn",), 4)
    assert from_plain(to_plain(SMALL), VALUES) == SMALL


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"passages": 0}, "passages"),
        ({"lengths": ()}, "lengths"),
        ({"lengths": (2000,)}, "lengths"),
        ({"variants": ("yarm",)}, "variants: no variant is called .* did you mean"),
        ({"window": 1022}, "window"),
        ({"trained": 0}, "trained"),
    ],
)
def test_an_impossible_value_is_refused(wrong, field):
    with pytest.raises(BadInput, match=field):
        replace(SMALL, **wrong)


def test_more_to_read_takes_longer():
    """The pairs of the estimate are those that the parts count themselves."""
    half = replace(SMALL, lengths=(128,))
    assert half.seconds("as-is", (0.5,)) < SMALL.seconds("as-is", (0.5,)) < SMALL.seconds("as-is", (0.1, 0.5))
    large = subject("large", SMOLLM2, 8192)
    assert large.seconds("window", (0.5,)) < large.seconds("yarn", (0.5,))
    whole = replace(large, lengths=(large.context,))
    counted = whole.token * large.context + whole.pair * large.context**2 / 2
    assert counted == pytest.approx(SMOLLM2.cost(large.context, large.context).flops, rel=0.01)  # half a row more
    assert isinstance(whole, Subject)


def test_a_run_tells_the_length_of_its_rows(tmp_path):
    recipe = nano(length=32)
    Run.create(tmp_path / "run", "nano", recipe)
    assert trained_length(str(tmp_path / "run"), recipe.task.model) == 32 < recipe.task.model.length  # type: ignore
    assert trained_length("smollm2-135m", SMOLLM2) == 8192
