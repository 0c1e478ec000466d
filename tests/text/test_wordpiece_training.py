"""The trained vocabulary against that of the `tokenizers` library.

The library gives the `##` characters ids in random order, which decides between equal counts; told them as special
tokens it has no choice, and both are told the same.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers, trainers

from cutaway.base.errors import BadInput
from cutaway.text.bert_normaliser import BertNormaliser, words
from cutaway.text.wordpiece import SPECIAL
from cutaway.text.wordpiece_training import Pairs, learn


def counted(lines) -> Counter[str]:
    return Counter(word for line in lines for word in words(BertNormaliser()(line)))


def theirs(lines, size: int, special) -> list[str]:
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.train_from_iterator(
        lines, trainers.WordPieceTrainer(vocab_size=size, show_progress=False, special_tokens=list(special))
    )
    vocab = backend.get_vocab()
    return sorted(vocab, key=vocab.__getitem__)


def both(lines, size: int) -> tuple[list[str], list[str]]:
    found = counted(lines)
    special = [*SPECIAL, *sorted({f"##{character}" for word in found for character in word[1:]})]
    return learn(found, size=size, special=special), theirs(lines, size, special)


def test_the_vocabulary_is_the_librarys(shared_data):
    text = shared_data("tinyshakespeare/input.txt").read_text(encoding="utf-8")[:200_000]
    ours, library = both(text.split("\n"), 1500)
    assert ours == library and len(ours) == 1500


def test_the_vocabulary_of_mixed_scripts_is_the_librarys(corpus, texts):
    for size in (400, 900, 5000):
        ours, library = both([*corpus, *(text for text in texts if "=" * 70 not in text)], size)
        assert ours == library


@given(lines=st.lists(st.text("ab ", min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=4))
def test_runs_and_overlaps_are_the_librarys(lines):
    ours, library = both(lines, 40)
    assert ours == library


def test_without_ties_the_order_of_its_characters_does_not_matter():
    lines = ["abc " * 16 + "abd " * 7 + "ef " * 5 + "abce " * 3]
    ours, library = learn(counted(lines), size=30, special=SPECIAL), theirs(lines, 30, SPECIAL)
    assert set(ours) == set(library)
    assert ours[-5:] == library[-5:] == ["ab", "abc", "abd", "ef", "abce"]


@given(found=st.dictionaries(st.text("abc", min_size=1, max_size=8), st.integers(1, 5), min_size=1, max_size=8))
def test_counts_are_those_of_counting_anew(found):
    ids = {"a": 0, "b": 1, "c": 2}
    pairs = Pairs([[ids[character] for character in word] for word in found], list(found.values()))
    new = 3
    while (best := pairs.best()) is not None:
        assert pairs.counts[best] == max(pairs.counts.values())
        pairs.join(best, new)
        anew: Counter[tuple[int, int]] = Counter()
        for word, weight in zip(pairs.words, found.values(), strict=True):
            for pair in pairwise(word):
                anew[pair] += weight
        assert {pair: count for pair, count in pairs.counts.items() if count} == anew
        new += 1


def test_ids_have_an_order_of_their_own():
    tokens = learn({"ba": 3, "bab": 1, "c": 1}, size=20, special=["[UNK]"])
    assert tokens[:6] == ["[UNK]", "a", "b", "c", "##a", "##b"]
    assert tokens[6:] == ["ba", "bab"]


def test_rare_characters_and_what_cannot_be_learned():
    assert "z" not in "".join(learn({"ab": 99, "az": 1}, size=20, special=[], coverage=0.99))
    with pytest.raises(BadInput, match="corpus: there are no words in it"):
        learn({}, size=20, special=[])
    with pytest.raises(BadInput, match="vocab: 3 tokens; 4 are the special ones and the text's characters"):
        learn({"ab": 1, "c": 1}, size=3, special=[])
