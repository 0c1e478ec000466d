"""Ids, token types and texts against the `tokenizers` library on the same vocabulary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from cutaway.base.errors import BadInput, NotFound
from cutaway.text.bert_normaliser import BertNormaliser
from cutaway.text.wordpiece import SPECIAL, WordPiece

HARD = [*"abé 你好.,'$#\n\t\x00\ufffd\u0301İΣς👍", "the", "##a", "[MASK]", "[CLS]", "n't", "do not", "<|end|>", "ing"]


@pytest.fixture(scope="module", params=["uncased", "cased"])
def pair(request, corpus, tmp_path_factory):
    normaliser = BertNormaliser(lowercase=request.param == "uncased")
    ours = WordPiece.train(corpus, vocab=900, special=["<|end|>"], normaliser=normaliser)
    path = tmp_path_factory.mktemp("wordpiece") / "tokenizer.json"
    ours.save(path)
    again = WordPiece.load(path)
    assert (again.tokens, again.special, again.normaliser) == (ours.tokens, ours.special, ours.normaliser)
    return again, Backend.from_file(str(path))


def check(pair, text: str) -> None:
    ours, theirs = pair
    for special in (True, False):
        ids = theirs.encode(text, add_special_tokens=special).ids
        assert ours.encode(text, special) == ids
        assert ours.decode(ids) == theirs.decode(ids)
        assert ours.decode(ids, special=True) == theirs.decode(ids, skip_special_tokens=False)
    both = theirs.encode(text, "the king")
    assert ours.encode_pair(text, "the king") == (both.ids, both.type_ids)


def test_ids_and_texts_are_the_librarys(pair, texts):
    for text in (*texts, b"\xff\xfe \xe4\xbd a\x80".decode("utf-8", "replace"), "x" * 100, "x" * 101, "x" * 5000):
        check(pair, text)


@given(
    text=st.lists(
        st.one_of(st.sampled_from(HARD), st.characters(codec="utf-8", exclude_categories=["Cn"])), max_size=20
    ).map("".join)
)
def test_any_text(pair, text):
    check(pair, text.replace("\U00011938", ""))  # text/bert_normaliser.py names it


@given(data=st.data())
def test_any_ids(pair, data):
    ours, theirs = pair
    ids = data.draw(st.lists(st.integers(0, ours.vocab - 1), max_size=20))
    assert ours.decode(ids) == theirs.decode(ids)


def test_the_fast_one_is_the_same(pair, texts):
    ours, _ = pair
    fast = ours.fast()
    assert fast.vocab == ours.vocab and fast.special == ours.special
    assert all(fast.encode(text) == ours.encode(text) for text in texts)


def test_longest_piece_first_from_the_left():
    tokens = [*SPECIAL, "un", "una", "##a", "##aff", "##able", "##ff", "want", "##ed"]
    ours = WordPiece(tokens)
    assert [tokens[index] for index in ours.encode("unaffable wanted", special=False)] == [
        *("una", "##ff", "##able"),
        *("want", "##ed"),
    ]
    assert ours.encode("unaffably un", special=False) == [1, 5]  # one letter short of the end: unknown as a whole
    assert ours.decode(ours.encode("Wanted: un")) == "wanted un"


def test_two_texts_have_two_types():
    ours = WordPiece([*SPECIAL, "a", "b"])
    assert ours.encode_pair("a", "b b") == ([2, 5, 3, 6, 6, 3], [0, 0, 0, 1, 1, 1])
    assert ours.encode("a") == [2, 5, 3] and ours.encode("a", special=False) == [5]
    bare = WordPiece.train(["a b"], vocab=20, special=["[UNK]"])
    assert bare.encode("a") == [bare.tokens.index("a")]
    with pytest.raises(BadInput, match="no \\[CLS\\]"):
        bare.encode_pair("a", "b")


def test_vocab_txt_holds_the_tokens(pair, tmp_path, texts):
    ours, _ = pair
    path = tmp_path / "vocab.txt"
    ours.save_vocab(path)
    again = WordPiece.from_vocab(path, normaliser=ours.normaliser)
    assert again.tokens == ours.tokens
    assert all(again.encode(text) == ours.encode(text) for text in texts if "<|end|>" not in text)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert WordPiece.from_vocab(path).tokens == ours.tokens


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[UNK]\na\n\nb\n", "line 3: holds no token"),
        (b"[UNK]\na\nb\na\n", "line 4: 'a' stands on line 2 already"),
        (b"[UNK]\n\xff\n", r"not UTF-8 text \(byte 6\)"),
        (b"a\nb\n", r"vocabulary: \[UNK\] is missing"),
    ],
)
def test_a_broken_vocab_txt_is_named_with_its_line(tmp_path, content, message):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message) as caught:
        WordPiece.from_vocab(path)
    assert caught.value.source == path
    with pytest.raises(NotFound):
        WordPiece.from_vocab(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "corpus: there are no words in it"),
        ([" \n", "\u200b"], {}, "corpus: there are no words in it"),
        (["y" * 101], {}, "corpus: there are no words in it"),
        (["abcdef"], {"vocab": 8}, "vocab: 8 tokens; 16 are"),
        ("one text", {}, "corpus: must be a list of texts"),
        (["ok"], {"coverage": 2.0}, "coverage: must be above 0"),
        (["ok"], {"special": [""]}, "special"),
    ],
)
def test_what_cannot_be_trained_is_named(texts, options, message):
    with pytest.raises(BadInput, match=message):
        WordPiece.train(texts, **{"vocab": 500, **options})


def test_a_vocabulary_with_twice_the_same_token_is_refused():
    with pytest.raises(BadInput, match="'a' is there more than once"):
        WordPiece([*SPECIAL, "a", "a"])
    with pytest.raises(BadInput, match="cannot have id 9"):
        WordPiece([*SPECIAL, "a"], special={"[UNK]": 9})
    with pytest.raises(BadInput, match="cannot stand on one line"):
        WordPiece([*SPECIAL, "a b "]).save_vocab("nowhere.txt")
