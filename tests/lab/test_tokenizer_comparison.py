from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.lab import tokenizer_comparison
from cutaway.lab.tokenizer_comparison import CHINESE, ENGLISH, KINDS, Sample, language_of, measured, sampled, trained
from cutaway.text.character import Character
from cutaway.text.wordpiece import SPECIAL, WordPiece


@pytest.fixture(scope="module")
def sample(root):
    texts = [(root / "tests" / "data" / name).read_text(encoding="utf-8") for name in ("english.txt", "chinese.txt")]
    return sampled(texts)


def test_language_is_that_of_most_letters():
    assert language_of("Hello 你") == ENGLISH
    assert language_of("你好世界 a") == CHINESE
    assert language_of("12, 3!") == language_of("") == language_of("Привет") == ""


def test_lines_are_sorted_by_language_and_every_tenth_block_is_held_out():
    text = "\n".join(f"line {number}" for number in range(400)) + "\n" + "\n".join("你好世界" for _ in range(200))
    found = sampled([text])
    assert found.languages() == [ENGLISH, CHINESE]
    assert [len(found.train[name]) for name in found.languages()] == [18, 9]
    assert [len(found.held_out[name]) for name in found.languages()] == [2, 1]
    assert found.held_out[ENGLISH][0].split("\n")[0] == "line 180"
    lines = [
        line
        for part in (found.train, found.held_out)
        for texts in part.values()
        for text in texts
        for line in text.split("\n")
    ]
    assert sorted(lines) == sorted(text.split("\n"))


def test_figures_are_those_counted_by_hand():
    held = Sample(train={}, held_out={ENGLISH: ["ab cd ab"], CHINESE: ["你好 x"]})
    tokens = [*SPECIAL, "ab", "c", "##d", "x"]
    english, chinese = measured("ours", WordPiece(tokens).fast(), held)
    assert (english.name, english.vocab, english.tokens) == ("ours", 9, 4)
    assert (english.bytes_per_token, english.fertility, english.unknown) == (8 / 4, 4 / 3, 0.0)
    assert (chinese.bytes_per_token, chinese.fertility) == (8 / 3, 3 / 3)
    assert chinese.unknown == pytest.approx(2 / 3)


def test_less_than_a_character_is_told(sample):
    for kind, vocab in (("bpe", 300), ("unigram", 400)):
        tokenizer = trained(kind, sample, vocab)
        rows = measured(kind, tokenizer, Sample(held_out={CHINESE: ["龘龘"], ENGLISH: ["the the"]}))
        assert {row.language: row.in_bytes > 0.7 for row in rows} == {CHINESE: True, ENGLISH: False}
        assert all(row.unknown == 0 for row in rows)
    unknowing = Character.train(["the "], special=["<unk>"], unknown="<unk>").fast()
    row = measured("c", unknowing, Sample(held_out={CHINESE: ["龘e"]}))[0]
    assert (row.unknown, row.in_bytes) == (0.5, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_trained_and_measured(sample, kind):
    tokenizer = trained(kind, sample, 450)
    assert tokenizer.vocab <= 450
    rows = measured(kind, tokenizer, sample)
    assert [row.language for row in rows] == [ENGLISH, CHINESE]
    assert all(row.bytes_per_token > 0.5 and row.fertility > 0.5 and 0 <= row.unknown < 1 for row in rows)


def test_neither_language_is_refused():
    with pytest.raises(BadInput, match="corpus: there is neither English nor Chinese"):
        sampled(["Привет мир", "123"])
    assert tokenizer_comparison.sampled(["one line"]).train[ENGLISH] == ["one line"]
