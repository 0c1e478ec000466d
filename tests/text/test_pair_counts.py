"""The fast form of training against the readable one, and both against the `tokenizers` trainer."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from cutaway.base.errors import BadInput
from cutaway.text.detokenizer import alphabet
from cutaway.text.pair_counts import PairTable, merges_kept, merges_recounted

PLAIN = list(range(256))
# Few letters, so that runs, overlaps and ties are everywhere.
WORDS = st.dictionaries(st.text(alphabet="ab ", max_size=12).map(str.encode), st.integers(1, 5), max_size=8)


def library_merges(words: dict[bytes, int]) -> list[tuple[str, str]]:
    """What the Rust trainer merges; words of letters "ab", each given as a text of its own as often as it occurs."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(vocab_size=10**6, initial_alphabet=alphabet(), show_progress=False)
    backend.train_from_iterator([word.decode() for word, count in words.items() for _ in range(count)], trainer)
    import json

    return [tuple(pair) for pair in json.loads(backend.to_str())["model"]["merges"]]


@pytest.mark.parametrize("form", [merges_recounted, merges_kept])
def test_the_example_of_the_paper(form):
    words = {b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}
    tokens = [bytes([byte]) for byte in range(256)]
    made = []
    for left, right, count in islice(form(words, PLAIN), 6):
        tokens.append(tokens[left] + tokens[right])
        made.append((tokens[-1], count))
    assert made == [(b"es", 9), (b"est", 9), (b"lo", 7), (b"low", 7), (b"ew", 6), (b"new", 6)]


@pytest.mark.parametrize("form", [merges_recounted, merges_kept])
def test_ties_go_to_the_smaller_ids(form):
    assert list(form({b"ba": 1, b"ab": 1}, PLAIN)) == [(97, 98, 1), (98, 97, 1)]
    backwards = PLAIN[::-1]
    assert list(form({b"ba": 1, b"ab": 1}, backwards)) == [(157, 158, 1), (158, 157, 1)]
    assert list(form({b"ba": 1, b"bc": 1}, PLAIN)) == [(98, 97, 1), (98, 99, 1)]


@given(words=WORDS)
def test_kept_counts_lead_to_the_same_merges_as_counting_anew(words):
    assert list(merges_kept(words, PLAIN)) == list(merges_recounted(words, PLAIN))


@given(words=WORDS)
def test_merges_equal_those_of_the_library(words):
    letters, order = alphabet(), sorted(alphabet())
    ids = [order.index(letter) for letter in letters]
    tokens = list(order)
    ours = []
    for left, right, _ in merges_kept(words, ids):
        ours.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    assert ours == library_merges(words)


@given(words=WORDS, steps=st.integers(0, 12))
def test_the_table_is_whole_after_any_merges(words, steps):
    table = PairTable(words, PLAIN)
    table.check()
    for new in range(256, 256 + steps):
        if not table.counts:
            return
        table.merge(sorted(table.counts)[steps % len(table.counts)], new)  # any pair, not only the best
        table.check()


def test_a_real_text(root):
    words: dict[bytes, int] = {}
    for word in (root / "tests/data/english.txt").read_text(encoding="utf-8")[:20_000].split():
        words[word.encode()] = words.get(word.encode(), 0) + 1
    assert list(islice(merges_kept(words, PLAIN), 150)) == list(islice(merges_recounted(words, PLAIN), 150))


def test_a_run_is_merged_from_the_left():
    assert [pair[:2] for pair in merges_kept({b"a" * 7: 1}, PLAIN)] == [(97, 97), (256, 256), (256, 97), (257, 258)]


@pytest.mark.parametrize("form", [merges_recounted, merges_kept])
@pytest.mark.parametrize("words", [{}, {b"": 3}, {b"a": 2, b"": 1, b"b": 1}])
def test_where_there_is_no_pair_there_is_no_merge(form, words):
    assert list(form(words, PLAIN)) == []


def test_one_long_word_takes_time_in_proportion():
    """A million letters: the readable form would look at all of them again for each merge."""
    word = b"abcdefgh" * 125_000
    made = list(islice(merges_kept({word: 1}, PLAIN), 12))
    assert [count for _, _, count in made[:7]] == [125_000] * 7
    assert made[7][2] == 124_999


def test_too_much_is_refused(monkeypatch):
    monkeypatch.setattr("cutaway.text.pair_counts.LIMIT", 4)
    with pytest.raises(BadInput, match="5 bytes of different words"):
        PairTable({b"ab": 1, b"abc": 1}, PLAIN)
