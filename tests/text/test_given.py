from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.text.given import checked_text, checked_texts


def test_text_passes_as_it_is():
    assert checked_text("你好 👍\x00") == "你好 👍\x00"
    assert list(checked_texts(iter(["a", ""]))) == ["a", ""]


@pytest.mark.parametrize("wrong", [b"bytes", None, 5, "\ud83d", "ab\udcff"])
def test_anything_else_is_refused(wrong):
    with pytest.raises(BadInput):
        checked_text(wrong)
    with pytest.raises(BadInput, match=r"texts\[1\]"):
        list(checked_texts(["a", wrong]))


@pytest.mark.parametrize("wrong", ["text", b"text"])
def test_one_text_is_not_many(wrong):
    with pytest.raises(BadInput, match="must be many texts"):
        list(checked_texts(wrong))
