"""The heap against the plain search, and both against the `tokenizers` library."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from cutaway.text.merges import LONG, join, join_long, joined, merged

LETTERS = "abc"


@st.composite
def tables(draw):
    """Merges over three letters in any order, also one that uses a token before the merge that makes it."""
    tokens = list(LETTERS)
    merges = []
    for _ in range(draw(st.integers(0, 10))):
        pair = (draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens)))
        if pair not in merges and len("".join(pair)) <= 8:
            merges.append(pair)
            tokens.append("".join(pair)) if "".join(pair) not in tokens else None
    return tokens, draw(st.permutations(merges))


@given(table=tables(), text=st.text(alphabet=LETTERS, max_size=80))
def test_both_forms_do_what_the_library_does(table, text):
    tokens, merges = table
    ids = {token: index for index, token in enumerate(tokens)}
    ranks = {(ids[a], ids[b]): (rank, ids[a + b]) for rank, (a, b) in enumerate(merges)}
    symbols = [ids[letter] for letter in text]
    expected = Tokenizer(models.BPE(vocab=ids, merges=merges)).encode(text).ids
    assert join(symbols, ranks) == expected
    assert join_long(symbols, ranks) == expected
    assert joined(symbols, ranks) == expected


def test_one_pair_is_merged_from_the_left():
    assert merged([1, 1, 1, 2, 1], (1, 1), 9) == [9, 1, 2, 1]
    assert merged([2, 1, 2, 1], (2, 1), 9) == [9, 9] and merged([1, 2], (2, 1), 9) == [1, 2]
    assert merged([], (1, 1), 9) == []


def test_a_long_line_takes_time_in_proportion():
    """The plain search would need minutes for this."""
    ranks = {(0, 0): (0, 1), (1, 1): (1, 2)}
    assert join_long([0] * 100_001, ranks) == [2] * 25_000 + [0]
    assert joined([0] * LONG, ranks) == join([0] * LONG, ranks)


def test_what_is_handed_in_stays_as_it_was():
    symbols = [0, 0, 0]
    assert join(symbols, {(0, 0): (0, 1)}) == join_long(symbols, {(0, 0): (0, 1)}) == [1, 0]
    assert symbols == [0, 0, 0]
    assert join([], {}) == join_long([], {}) == []
