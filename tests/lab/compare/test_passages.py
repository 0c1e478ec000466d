from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.lab.compare.passages import learned, passages
from cutaway.text.bpe import BytePair

WHOLE = "".join(chr(ord("a") + at % 26) for at in range(900)) + "中文" * 50


@pytest.fixture
def source(tmp_path) -> str:
    (tmp_path / "text.txt").write_text(WHOLE, encoding="utf-8")
    return str(tmp_path / "text.txt")


def test_the_last_tenth_is_read_and_what_is_before_learned_from(source):
    tokenizer = BytePair.train(["a"], vocab=256).fast()
    ids_BT = passages(tokenizer, source, 3, 60)
    texts = [tokenizer.decode(row.tolist()) for row in ids_BT]
    assert ids_BT.shape == (3, 60) and all(set(text.strip("\ufffd")) == set("中文") for text in texts)
    assert WHOLE.startswith(learned(source)) and "中" not in learned(source) and len(learned(source)) == 900
    assert passages(tokenizer, source, 1, 300).shape == (1, 300)
    with pytest.raises(BadInput, match="last tenth, which is read, has 300 tokens: 301 are asked for"):
        passages(tokenizer, source, 1, 301)


def test_what_a_tokenizer_puts_first_stands_first(source):
    class Begun:
        def encode(self, text: str, special: bool = True) -> list[int]:
            return [1] * special + [7] * len(text)

    ids_BT = passages(Begun(), source, 2, 10)  # type: ignore[arg-type]
    assert ids_BT.tolist() == [[1] + [7] * 9] * 2
