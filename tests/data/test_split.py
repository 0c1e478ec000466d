from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.data.split import cut, held_out


def test_about_the_fraction_is_held_out_and_each_stays_on_its_side():
    texts = [f"document {at}" for at in range(20_000)]
    held = {text for text in texts if held_out(text, 0.1)}
    assert abs(len(held) - 2000) < 200  # 4.7 standard deviations
    assert held < {text for text in texts if held_out(text, 0.2)}, "a larger fraction holds out more, not others"
    assert held_out("document 7", 0.1) == ("document 7" in held)
    assert {text for text in texts if held_out(text, 0.1, seed=1)} != held
    assert not any(held_out(text, 0.0) for text in texts[:50])


def test_a_long_text_is_cut_as_nanogpt_cuts_it():
    assert cut("abcdefghij", 0.1) == ("abcdefghi", "j")
    text = "x" * 1_115_394  # tinyshakespeare
    assert [len(part) for part in cut(text, 0.1)] == [1_003_854, 111_540]
    with pytest.raises(BadInput, match="fraction"):
        cut("a", 1.0)
