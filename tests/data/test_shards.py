from __future__ import annotations

import json

import numpy as np
import pytest

from cutaway.base.errors import BadInput, NotFound
from cutaway.data.encoding import Crew, Writer
from cutaway.data.shards import META, Coding, Shards, fingerprint
from cutaway.text.tokenizer import Tokenizer


@pytest.fixture
def folder(tmp_path, corpus, tokenizer):
    with Crew(tokenizer, Coding.of(tokenizer), 1) as crew:
        writer = Writer(tmp_path / "set", crew, chunk=400)
        for text in ["", *corpus, ""]:
            writer.add(text)
        writer.finish({"made": "here"})
    return tmp_path / "set"


def test_a_stretch_runs_over_shards_and_a_read_stays_in_its_document(folder, corpus, tokenizer):
    shards = Shards(folder)
    each = [tokenizer.encode(text) for text in ["", *corpus, ""]]
    whole = [token for ids in each for token in ids]
    assert shards.lengths.tolist() == [len(ids) for ids in each] and len(shards.meta["shards"]) > 3
    assert shards.stretch(0, 10**9).tolist() == whole
    generator = np.random.default_rng(0)
    for start, count in zip(generator.integers(0, len(whole), 50), generator.integers(0, 300, 50), strict=True):
        assert shards.stretch(int(start), int(start + count)).tolist() == whole[start : start + count]
    for number in (1, 5, len(corpus)):
        assert shards.read(number, 2, 7).tolist() == each[number][2:7]
    assert shards.meta["about"] == {"made": "here"}


def test_a_large_vocabulary_takes_wider_ids():
    assert Coding(tokenizer="x", vocab=65_536).dtype == "uint16"
    assert Coding(tokenizer="x", vocab=65_537).dtype == "uint32"
    with pytest.raises(BadInput, match=r"Coding.end: 10 is no id of a vocabulary of 10"):
        Coding(tokenizer="x", vocab=10, end=10)


def test_a_fingerprint_survives_saving_and_tells_tokenizers_apart(folder, tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t")
    again = Tokenizer.from_folder(tmp_path / "t")
    assert fingerprint(again) == fingerprint(tokenizer)
    Shards(folder).check(again)
    changed = json.loads((tmp_path / "t" / "tokenizer.json").read_text(encoding="utf-8"))
    changed["model"]["merges"] = changed["model"]["merges"][:-1]
    (tmp_path / "t" / "tokenizer.json").write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(BadInput, match=r"meta.json: coding.tokenizer: tokenised with another tokenizer"):
        Shards(folder).check(Tokenizer.from_folder(tmp_path / "t"))


def test_nothing_there_and_not_finished_are_told_apart(folder, tmp_path):
    with pytest.raises(NotFound, match=r"no prepared corpus \(there is no meta.json\)"):
        Shards(tmp_path)
    (folder / META).unlink()
    with pytest.raises(NotFound, match="was not finished; prepare it again"):
        Shards(folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("meta.json", "{", "meta.json: cannot be read"),
        ("meta.json", "[]", "must hold an object"),
        ("meta.json", '{"format": 99}', "format: written in format 99, not 1"),
        ("meta.json", '{"format": 1, "coding": {"vocab": 3}}', "coding: does not say how"),
        ("meta.json", '{"format": 1, "coding": {"tokenizer": "x", "vocab": 3}}', "shards: must be a list"),
        (
            "meta.json",
            '{"format": 1, "coding": {"tokenizer": "x", "vocab": 3}, "shards": [{"documents": -1}]}',
            r"shards\[0\]: must count",
        ),
        ("00000.lengths.npy", "junk", "00000.lengths.npy: damaged"),
        ("00001.tokens.npy", "junk", "00001.tokens.npy: damaged"),
    ],
)
def test_damage_is_named(folder, file, content, message):
    (folder / file).write_text(content, encoding="utf-8")
    with pytest.raises(BadInput, match=message):
        Shards(folder).stretch(0, 10**9)


def test_a_cut_or_swapped_file_is_seen(folder):
    tokens = folder / "00001.tokens.npy"
    tokens.write_bytes(tokens.read_bytes()[:-2])
    with pytest.raises(BadInput, match=r"00001.tokens.npy: damaged"):
        Shards(folder).stretch(0, 10**9)
    np.save(folder / "00000.lengths.npy", np.load(folder / "00000.lengths.npy") + 1)
    with pytest.raises(BadInput, match=r"00000.lengths.npy: damaged: .* tokens, .* expected"):
        Shards(folder)
    np.save(folder / "00000.lengths.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(BadInput, match="damaged"):  # never unpickled
        Shards(folder)
