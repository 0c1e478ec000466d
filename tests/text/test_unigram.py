"""Ids and texts against the `tokenizers` library on the same vocabulary."""

from __future__ import annotations

import json
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from cutaway.base.errors import BadInput
from cutaway.text.unigram import BYTES, Unigram

SPECIAL = ("<s>", "<|end|>")
KINDS = {
    "bytes": {"byte_fallback": True},
    "unknown": {"byte_fallback": False, "coverage": 0.98},
    "bare": {"byte_fallback": True, "coverage": 0.99, "prefix": False},
}
HARD = [*"ab 1,.▁你好的é👍\n\x00\ufffd<>0x4", *SPECIAL, "the", "   ", "<unk>", "<0x41>", "▁▁", "\u200d"]


@pytest.fixture(scope="module", params=KINDS)
def pair(request, corpus, tmp_path_factory):
    """Ours, and the library's reading of the file that we write."""
    ours = Unigram.train(corpus, vocab=700, special=SPECIAL, **KINDS[request.param])
    path = tmp_path_factory.mktemp("unigram") / "tokenizer.json"
    ours.save(path)
    again = Unigram.load(path)
    assert (again.pieces, again.special, again.unknown) == (ours.pieces, ours.special, ours.unknown)
    return again, Backend.from_file(str(path))


@pytest.fixture(scope="module")
def trained(corpus):
    return Unigram.train(corpus, vocab=650)


def check(pair, text: str) -> None:
    ours, theirs = pair
    ids = theirs.encode(text).ids
    assert ours.encode(text) == ids
    assert ours.decode(ids) == theirs.decode(ids)
    assert ours.decode(ids, special=True) == theirs.decode(ids, skip_special_tokens=False)


def test_ids_and_texts_are_the_librarys(pair, texts):
    for text in (*texts, b"\xff\xfe \xe4\xbd a\x80".decode("utf-8", "replace"), "x" * 3000, "你" * 500):
        check(pair, text)


@given(
    text=st.lists(st.one_of(st.sampled_from(HARD), st.characters(exclude_categories=["Cs"])), max_size=20).map("".join)
)
def test_any_text(pair, text):
    check(pair, text)


@given(data=st.data())
def test_any_ids(pair, data):
    ours, theirs = pair
    near = st.integers(0, 262)  # where the bytes are, that only sometimes make characters
    ids = data.draw(st.lists(st.one_of(near, st.integers(0, ours.vocab - 1)), max_size=20))
    assert ours.decode(ids) == theirs.decode(ids)


def test_the_fast_one_is_the_same(pair, texts):
    ours, _ = pair
    fast = ours.fast()
    assert fast.vocab == ours.vocab and fast.special == ours.special
    assert all(fast.encode(text) == ours.encode(text) for text in texts)
    detokenizer = fast.detokenizer()
    ids = ours.encode("Hello 你好 👍🏽 é end")
    assert "".join(map(detokenizer.push, ids)) + detokenizer.flush() == ours.decode(ids)


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁<")))
def test_nothing_is_lost_with_bytes(trained, text):
    ours = trained
    assert ours.decode(ours.encode(text)) == text.removeprefix(" ")


def test_vocabulary_begins_with_special_tokens_and_bytes(corpus):
    ours = Unigram.train(corpus, vocab=650, special=SPECIAL)
    assert ours.vocab == 650
    assert [piece for piece, _ in ours.pieces[:259]] == ["<unk>", *SPECIAL, *BYTES]
    assert ours.special == {"<unk>": 0, "<s>": 1, "<|end|>": 2}
    first = Unigram.train(corpus, vocab=700, special=["<pad>", "<unk>"], byte_fallback=False)
    assert [piece for piece, _ in first.pieces[:2]] == ["<pad>", "<unk>"] and first.unknown == 1


def test_training_is_repeatable_and_order_does_not_matter(corpus, trained):
    assert trained.pieces == Unigram.train(iter(corpus), vocab=650).pieces
    again = Unigram.train(sorted(corpus), vocab=650)
    assert {piece for piece, _ in again.pieces} == {piece for piece, _ in trained.pieces}


def test_special_tokens_in_a_corpus_are_not_learned_from():
    texts = ["<s>hello there<s>hello there<|end|>"] * 20
    ours = Unigram.train(texts, vocab=300, special=SPECIAL)
    assert not any("<" in piece or "s>" in piece for piece, _ in ours.pieces[259:])


def test_samples_spell_the_text_and_differ(trained):
    ours = trained
    text = "Hello world, the king's 你好"
    drawn = {tuple(ours.sample(text, random=Random(seed))) for seed in range(30)}
    assert len(drawn) > 10
    assert {ours.decode(ids) for ids in drawn} == {text}
    assert ours.sample(text, random=Random(1)) == ours.sample(text, random=Random(1))
    sharp = Counter(tuple(ours.sample(text, smoothing=50, random=Random(seed))) for seed in range(20))
    assert sharp.most_common(1)[0][0] == tuple(ours.encode(text))
    with pytest.raises(BadInput, match="smoothing: must be a number from 0 up, not -1"):
        ours.sample(text, smoothing=-1)


def test_the_likelihood_is_over_all_cuts(trained):
    ours = trained
    scores = dict(ours.pieces)
    best = sum(scores[ours.pieces[index][0]] for index in ours.encode("Hello world"))
    assert best < ours.log_likelihood("Hello world") < best + 5
    assert ours.log_likelihood("") == 0.0


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "corpus: there is no text in it"),
        (["", ""], {"vocab": 300}, "corpus: there is no text in it"),
        (
            ["abcdefgh"],
            {"vocab": 262},
            r"vocab: 262 tokens, of which 257 are special ones and bytes: there is room for 5 pieces",
        ),
        (["ab"], {"vocab": 100}, "vocab: 100 tokens, of which 257 .* room for 0 pieces"),
        ("one text", {}, "corpus: must be a list of texts"),
        (["ok", "\ud800"], {}, r"corpus: text 1: character 0 is half of a surrogate pair"),
        (["ok", 5], {}, r"corpus: text 1: must be a text"),
        (["ok"], {"coverage": 0.0}, "coverage: must be above 0"),
        (["ok"], {"special": ["<s>", "<s>"]}, "special: '<s>' is there more than once"),
    ],
)
def test_what_cannot_be_trained_is_named(texts, options, message):
    with pytest.raises(BadInput, match=message):
        Unigram.train(texts, **{"vocab": 500, **options})


def test_half_a_character_is_no_text(trained):
    with pytest.raises(BadInput, match="character 1 is half"):
        trained.encode("a\udc80")


BROKEN = {
    "model.vocab": lambda data: data["model"].update(vocab={"a": 1}),
    "model.vocab[1]": lambda data: data["model"]["vocab"][1].append(2),
    "model.vocab[2]": lambda data: data["model"]["vocab"].__setitem__(2, ["<unk>", 0.0]),
    "model.vocab[3]": lambda data: data["model"]["vocab"].__setitem__(3, ["x", float("nan")]),
    "model.unk_id": lambda data: data["model"].update(unk_id="0"),
    "unknown": lambda data: data["model"].update(unk_id=10**6),
    "model.type": lambda data: data["model"].update(type="BPE"),
    "model": lambda data: data.pop("model"),
    "normalizer": lambda data: data.update(normalizer={"type": "NFKC"}),
    "pre_tokenizer": lambda data: data.update(pre_tokenizer={"type": "Whitespace"}),
    "post_processor": lambda data: data.update(post_processor={"type": "ByteLevel"}),
    "added_tokens[0]": lambda data: data["added_tokens"][0].pop("content"),
}


@pytest.mark.parametrize("field", BROKEN)
def test_a_broken_file_is_named_with_its_field(trained, tmp_path, field):
    path = tmp_path / "tokenizer.json"
    trained.save(path)
    data = json.loads(path.read_text(encoding="utf-8"))
    BROKEN[field](data)
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        Unigram.load(path)
    assert (caught.value.field, caught.value.source) == (field, path)
