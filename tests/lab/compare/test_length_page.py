from __future__ import annotations

import math
import re

from cutaway.lab.compare.length_page import grid, page, tables
from cutaway.lab.compare.short import SHORT
from cutaway.lab.compare.subject import subject

SUBJECT = subject("small", SHORT["small"](512), 128, context=256, lengths=(128, 256), variants=("as-is", "window"))
MEASURED = {
    "small, as-is": {
        "edges": [0, 128, 255],
        "losses": [math.log(20), math.log(200)],
        "within": math.log(20),
        "beyond": math.log(200),
        "passkey": [
            {"length": 128, "depth": 0.5, "found": 1.0, "nats": 0.01},
            {"length": 256, "depth": 0.1, "found": 0.0, "nats": None},
            {"length": 256, "depth": 0.5, "found": 0.5, "nats": 3.0},
        ],
    }
}


def test_a_row_for_each_variant_and_dashes_for_what_is_missing():
    (table,) = tables((SUBJECT,), MEASURED)
    assert table.rows == (
        ("small (128 → 256)", "as-is", "20.00", "200.00", "100%", "25%"),
        ("", "window", "–", "–", "–", "–"),
    )


def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_is_told():
    made = page((SUBJECT,), "<b>text</b>", MEASURED)
    assert "&lt;b&gt;text" in made and "<b>text" not in made
    assert not re.search(r"(src|href)=", made) and "http" not in made.replace("http://www.w3.org", "")
    assert made.count("<polyline") == 2, "the curve and where training ended"
    assert "numbers found" in made and made.count('aria-label="numbers found') == 1
    empty = page((SUBJECT,), "text", {})
    assert "<polyline" not in empty and "small: perplexity by position" in empty


def test_a_cell_of_the_grid_for_each_answer():
    made = grid(MEASURED["small, as-is"]["passkey"], 128)  # type: ignore[arg-type]
    assert re.findall(r">(\d+%)</text>", made) == ["10%", "50%", "100%", "0%", "50%"]
    assert made.count('font-weight="bold"') == 1 and 'fill-opacity="0.40"' in made
