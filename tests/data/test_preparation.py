from __future__ import annotations

import json

import pytest

from cutaway.base.errors import BadInput, NotFound
from cutaway.data import encoding
from cutaway.data.cleaning import Cleaning
from cutaway.data.corpus import Corpus
from cutaway.data.preparation import Preparation, prepare
from cutaway.data.split import held_out

WHOLE = Preparation(separator="\n", validation=0.2)


@pytest.fixture
def source(tmp_path, corpus):
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join([*corpus, corpus[0], "\x01", corpus[3]]), encoding="utf-8")
    return path


def documents(shards, tokenizer) -> list[str]:
    return [tokenizer.decode(shards.read(number, 0, int(size)).tolist()) for number, size in enumerate(shards.lengths)]


def test_every_document_is_there_once_on_its_side(source, tmp_path, corpus, tokenizer):
    report = prepare([source], tokenizer, tmp_path / "out", WHOLE, workers=1)
    made = Corpus(tmp_path / "out")
    assert made.validation is not None
    expected = list(dict.fromkeys(corpus))
    assert documents(made.train, made.tokenizer) == [text for text in expected if not held_out(text, 0.2)]
    assert documents(made.validation, made.tokenizer) == [text for text in expected if held_out(text, 0.2)]
    assert made.train.stretch(0, 10**9).tolist().count(tokenizer.eos_id) == len(made.train.lengths)
    assert report.tally.read == len(corpus) + 3 and report.tally.kept == len(expected)
    assert report.tally.dropped == {"empty": 1, "the same as an earlier one": report.tally.read - 1 - len(expected)}
    assert report.tokens == made.train.tokens + made.validation.tokens
    assert report.bytes == sum(len(text.encode()) for text in expected)
    assert made.record["tally"]["dropped"] == report.tally.dropped


def test_stopped_in_the_middle_it_goes_on(source, tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK", 300)
    monkeypatch.setattr(encoding.Writer.__init__, "__kwdefaults__", {"chunk": 300, "advance": lambda count: None})
    write, made = encoding.Encoder.write, []

    def stop(self, folder, index, texts, record):
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append((folder.name, index))
        return write(self, folder, index, texts, record)

    monkeypatch.setattr(encoding.Encoder, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare([source], tokenizer, tmp_path / "out", WHOLE, workers=1)
    with pytest.raises(NotFound, match="was not finished; prepare it again"):
        Corpus(tmp_path / "out")
    monkeypatch.setattr(encoding.Encoder, "write", write)
    report = prepare([source], tokenizer, tmp_path / "out", WHOLE, workers=1)
    assert report.kept == 4 < report.shards
    prepare([source], tokenizer, tmp_path / "other", WHOLE, workers=1)
    for part in ("train", "validation"):
        one, other = ({path.name: path.read_bytes() for path in (tmp_path / name / part).iterdir()}
                      for name in ("out", "other"))  # fmt: skip
        assert one == other


def test_one_long_text_keeps_its_end_apart(tmp_path, corpus, tokenizer):
    path, text = tmp_path / "a.txt", "\n".join(corpus)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=r"1 documents are too few to keep 10% for validation: .* \(tail\)"):
        prepare([path], tokenizer, tmp_path / "out", Preparation(validation=0.1), workers=1)
    prepare([path], tokenizer, tmp_path / "out", Preparation(validation=0.1, tail=True), workers=1)
    made = Corpus(tmp_path / "out")
    assert made.validation is not None
    parts = [documents(part, made.tokenizer)[0] for part in (made.train, made.validation)]
    assert "".join(parts) == text and len(parts[0]) == int(len(text) * 0.9)
    prepare([path], tokenizer, tmp_path / "out", Preparation(validation=0), workers=1, replace=True)
    assert Corpus(tmp_path / "out").validation is None


def test_another_corpus_is_not_written_over_unasked(source, tmp_path, tokenizer):
    prepare([source], tokenizer, tmp_path / "out", WHOLE, workers=1)
    other = Preparation(separator="\n", validation=0.2, near=0.9)
    with pytest.raises(
        BadInput, match=r"made otherwise: preparation.near was None, is 0.9; choose another folder, or replace it"
    ):
        prepare([source], tokenizer, tmp_path / "out", other, workers=1)
    with pytest.raises(BadInput, match="sources was"):
        prepare([tmp_path], tokenizer, tmp_path / "out", WHOLE, workers=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(BadInput, match="is not empty, and holds no prepared corpus"):
        prepare([source], tokenizer, tmp_path / "full", WHOLE, workers=1, replace=True)
    with pytest.raises(BadInput, match="is a file"):
        prepare([source], tokenizer, source, WHOLE)
    assert (tmp_path / "full" / "thesis.txt").read_text(encoding="utf-8") == "mine"


def test_a_corpus_of_which_nothing_is_left_says_why(source, tmp_path, tokenizer):
    thai = Preparation(separator="\n", cleaning=Cleaning(script="Thai"))
    with pytest.raises(BadInput, match=r"corpus.txt: no document is left: .* less than 50% Thai, the first .*:1"):
        prepare([source], tokenizer, tmp_path / "out", thai, workers=1)
    (tmp_path / "void.txt").touch()
    with pytest.raises(BadInput, match=r"void.txt: the corpus is empty"):
        prepare([tmp_path / "void.txt"], tokenizer, tmp_path / "new", WHOLE, workers=1)


def test_a_document_that_is_too_long_is_named_with_its_place(source, tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(encoding, "LONGEST", 20)
    with pytest.raises(BadInput, match=r"corpus.txt:1: document: a document of 0 MiB"):
        prepare([source], tokenizer, tmp_path / "out", WHOLE, workers=1)


def test_two_at_once_are_kept_apart(source, tmp_path, tokenizer):
    from filelock import FileLock

    with FileLock(tmp_path / ".out.lock"), pytest.raises(BadInput, match="another process is preparing"):
        prepare([source], tokenizer, tmp_path / "out", WHOLE, workers=1)


def test_a_corpus_and_its_tokenizer_belong_together(source, tmp_path, tokenizer):
    prepare([source], tokenizer, tmp_path / "out", WHOLE, workers=1)
    path = tmp_path / "out" / "tokenizer" / "tokenizer.json"
    changed = json.loads(path.read_text(encoding="utf-8"))
    changed["model"]["merges"] = changed["model"]["merges"][:-1]
    path.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(BadInput, match="tokenised with another tokenizer"):
        Corpus(tmp_path / "out")


def test_the_folder_may_be_the_one_that_one_is_in(source, tmp_path, tokenizer, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    prepare([source], tokenizer, ".", WHOLE, workers=1)
    assert Corpus(".").train.tokens == Corpus(tmp_path / "here").train.tokens > 0


@pytest.mark.parametrize("fields", [{"validation": 1.0}, {"near": 0.0}, {"near": 1.5}])
def test_an_impossible_value_is_refused(fields):
    with pytest.raises(BadInput, match=next(iter(fields))):
        Preparation(**fields)
