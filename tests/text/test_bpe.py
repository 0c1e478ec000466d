"""Byte-level BPE against the `tokenizers` library: the same merges from a corpus, the same ids for any text."""

from __future__ import annotations

import json
import unicodedata

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, trainers

from cutaway.base.errors import BadInput
from cutaway.text.bpe import BytePair
from cutaway.text.detokenizer import alphabet
from cutaway.text.presplit import presplit

SPECIAL = ("<|endoftext|>", "<|im_start|>", "</s>")
NAMES = {"gpt-2": "gpt-2", "gpt-4": "llama3"}
# Letters that both sides know: the library's tables of Unicode are older than ours (text/patterns.py).
OLD = st.characters(exclude_categories=("Cs", "Cn")).filter(lambda c: unicodedata.ucd_3_2_0.category(c) != "Cn")
SPICED = st.lists(st.text(alphabet=OLD) | st.sampled_from([*SPECIAL, " the", "  \n", "你好", "'ll"])).map("".join)


def library(texts: list[str], cut: str, vocab: int, special: tuple[str, ...] = SPECIAL) -> tokenizers.Tokenizer:
    """The vocabulary that the Rust trainer learns."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = presplit(NAMES[cut]).pre_tokenizer()
    backend.decoder = tokenizers.decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, initial_alphabet=alphabet(), special_tokens=list(special), show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def model_of(backend: tokenizers.Tokenizer) -> dict:
    model = json.loads(backend.to_str())["model"]
    return {"vocab": model["vocab"], "merges": model["merges"]}


@pytest.fixture(scope="module", params=NAMES)
def pair(request, corpus):
    """(ours, the library's), trained on the same English, Chinese, code and emoji."""
    cut = request.param
    ours = BytePair.train(corpus, vocab=900, special=SPECIAL, cut=cut, processes=1)
    return ours, library(corpus, cut, 900)


def test_merges_and_ids_equal_those_of_the_library(pair):
    ours, theirs = pair
    assert ours.vocab == 900
    assert model_of(ours.backend()) == model_of(theirs)


@pytest.mark.parametrize("cut", NAMES)
@pytest.mark.parametrize("kind", ["english.txt", "chinese.txt", "code"])
def test_merges_of_a_whole_text_equal_those_of_the_library(root, kind, cut):
    path = root / ("src/cutaway/text/bpe.py" if kind == "code" else f"tests/data/{kind}")
    text = path.read_text(encoding="utf-8")[:60_000]
    ours = BytePair.train([text], vocab=700, cut=cut, processes=1)
    assert model_of(ours.backend()) == model_of(library([text], cut, 700, ()))


def test_words_that_occur_once_may_be_left_out(corpus):
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = presplit("gpt-2").pre_tokenizer()
    trainer = trainers.BpeTrainer(vocab_size=10**6, initial_alphabet=alphabet(), min_frequency=5, show_progress=False)
    backend.train_from_iterator(corpus[:40], trainer)
    ours = BytePair.train(corpus[:40], vocab=10**6, least=5)
    assert 256 < ours.vocab < 2000
    assert model_of(ours.backend()) == model_of(backend)


def test_encoding_equals_the_library(pair, texts):
    ours, theirs = pair
    for text in (*texts, " ".join(texts)):
        ids = ours.encode(text)
        assert ids == theirs.encode(text).ids
        assert ours.decode(ids) == theirs.decode(ids)
        assert ours.decode(ids, special=True) == text


@given(text=SPICED)
def test_any_text_is_encoded_as_the_library_does(pair, text):
    ours, theirs = pair
    ids = ours.encode(text)
    assert ids == theirs.encode(text).ids
    assert ours.decode(ids, special=True) == text
    assert ours.decode(ids) == theirs.decode(ids)


@given(
    data=st.binary()
    | st.text().map(str.encode)
    | st.lists(st.sampled_from([b"\xff", "中".encode()[:2], b" a"])).map(b"".join)
)
def test_any_bytes_come_back_as_they_were(pair, data):
    """Bytes that are no UTF-8 go through `encode(bytes)`; as text they are what errors="replace" makes of them."""
    ours, _ = pair
    assert ours.decode_bytes(ours.encode(data), special=True) == data
    text = data.decode("utf-8", "replace")
    assert ours.decode(ours.encode(data), special=True) == text
    if text == data.decode("utf-8", "ignore"):
        assert ours.encode(data) == ours.encode(text)


@given(ids=st.lists(st.integers(0, 899)))
def test_any_ids_are_decoded_as_the_library_does(pair, ids):
    ours, theirs = pair
    assert ours.decode(ids) == theirs.decode(ids)
    assert ours.decode(ids, special=True) == theirs.decode(ids, skip_special_tokens=False)


def test_special_tokens_are_matched_whole(pair):
    ours, _ = pair
    assert ours.encode("a</s><|endoftext|>") == [*ours.encode("a"), 2, 0] == ours.encode("a</s><|endoftext|>", False)
    assert ours.decode([2, *ours.encode("a")]) == "a"
    assert len(ours.encode("< /s>")) > 1


def test_saved_loaded_and_run_by_the_library(pair, texts, tmp_path):
    ours, _ = pair
    path = tmp_path / "tokenizer.json"
    ours.save(path)
    again = BytePair.load(path)
    assert (again.tokens, again.merges, again.special, again.cut) == (ours.tokens, ours.merges, ours.special, ours.cut)
    rust, fast = tokenizers.Tokenizer.from_file(str(path)), ours.fast()
    for text in texts:
        assert rust.encode(text).ids == fast.encode(text) == again.encode(text) == ours.encode(text)
        assert fast.decode(ours.encode(text)) == ours.decode(ours.encode(text))
    assert (fast.vocab, fast.eos_id, set(fast.special)) == (900, 0, set(SPECIAL))


def test_the_library_s_own_file_is_read(pair, texts, tmp_path):
    ours, theirs = pair
    path = tmp_path / "tokenizer.json"
    theirs.save(str(path))
    again = BytePair.load(path)
    assert again.tokens == ours.tokens
    assert [again.encode(text) for text in texts] == [ours.encode(text) for text in texts]


def test_any_number_of_processes_learns_the_same(corpus, monkeypatch):
    monkeypatch.setattr("cutaway.text.word_counts.CHUNK", 4000)
    one = BytePair.train(corpus, vocab=500, processes=1)
    assert BytePair.train(corpus, vocab=500, processes=2).merges == one.merges


def test_a_line_without_an_end_is_trained_on_and_encoded():
    """The Rust trainer takes a minute for this, since it moves the whole line at each merge; so it only encodes."""
    line = "人工智能" * 20_000 + "a" * 50_001
    ours = BytePair.train([line], vocab=300)
    ids = ours.encode(line)
    assert len(ids) < len(line) / 4
    assert ours.decode(ids) == line
    assert ids == ours.fast().encode(line)


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_an_empty_corpus_is_refused(texts):
    with pytest.raises(BadInput, match="corpus: there is no text in it"):
        BytePair.train(texts, vocab=300)


def test_a_vocabulary_smaller_than_the_alphabet_is_refused():
    with pytest.raises(BadInput, match="vocab: is 257; 256 bytes and 2 special tokens need 258"):
        BytePair.train(["a"], vocab=257, special=("<a>", "<b>"))
    assert BytePair.train(["ab"], vocab=258, special=("<a>", "<b>")).vocab == 258


def test_a_special_token_that_is_no_special_token_is_refused():
    with pytest.raises(BadInput, match="'!' is how a byte is spelled"):
        BytePair.train(["a"], vocab=300, special=("!",))
    with pytest.raises(BadInput, match="'the' is also a token that merges make"):
        BytePair.train(["the"], vocab=300, special=("the",))


def test_what_cannot_be_encoded_or_decoded_is_refused(pair):
    ours, _ = pair
    with pytest.raises(BadInput, match="text: character 1 is half of a surrogate pair"):
        ours.encode("a\ud83d")
    for wrong in (900, -1):
        with pytest.raises(BadInput, match=f"ids: {wrong} is not an id; there are 900"):
            ours.decode([0, wrong])


def test_a_corpus_smaller_than_the_vocabulary_gives_what_there_is():
    assert BytePair.train(["abab"], vocab=10**6).vocab == 258


def test_what_is_remembered_is_bounded(pair, monkeypatch):
    ours, _ = pair
    monkeypatch.setattr("cutaway.text.bpe._REMEMBERED", 8)
    words = [f"w{index} " * 2 for index in range(30)]
    first = [ours.encode(word) for word in words]
    assert len(ours._remembered) <= 8
    assert [ours.encode(word) for word in words] == first


@pytest.mark.proof
@pytest.mark.parametrize("cut", NAMES)
@pytest.mark.parametrize("name", ["tinyshakespeare", "zh_classical_modern"])
def test_merges_of_real_corpora_equal_those_of_the_library(shared_data, name, cut):
    import gzip

    folder = shared_data(name)
    path = next(path for path in sorted(folder.iterdir()) if path.name not in ("SOURCE.txt",))
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    ours = BytePair.train([text], vocab=4096, cut=cut)
    theirs = library([text], cut, 4096, ())
    assert model_of(ours.backend()) == model_of(theirs)
    assert ours.encode(text) == theirs.encode(text).ids
