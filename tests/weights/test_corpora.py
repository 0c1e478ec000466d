from __future__ import annotations

import re

import pytest

from cutaway.base.errors import NotFound
from cutaway.weights import corpora
from cutaway.weights.corpora import CORPORA, find, get, located, path_of
from cutaway.weights.shelf import SHELF

from .wheels import file_of, package_of


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def tiny(cache, monkeypatch):
    """A corpus of one file, and a list of what was fetched."""
    files, fetched = (file_of("a/b.md", b"text"),), []
    corpus = corpora.Corpus(
        name="tiny", description="x", licence="MIT", package=package_of("p", {"x": "a/b.md"}), files=files
    )
    monkeypatch.setitem(CORPORA, "tiny", corpus)

    def bring(packages, files, folder):
        fetched.append((packages, folder))
        (folder / "a").mkdir(parents=True, exist_ok=True)
        (folder / "a" / "b.md").write_bytes(b"text")

    monkeypatch.setattr(corpora, "fetch", bring)
    return fetched


@pytest.mark.parametrize("corpus", CORPORA.values(), ids=list(CORPORA))
def test_each_entry_is_sound(corpus):
    names = [file.name for file in corpus.files]
    assert CORPORA[corpus.name] is corpus and len(set(names)) == len(names) and corpus.name not in SHELF
    assert {name for _, name in corpus.package.gives} == set(names)
    assert corpus.licence and corpus.description and corpus.transfer <= corpus.size
    for file in corpus.files:
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256) and file.size > 0
        assert ".." not in file.name and not file.name.startswith("/")


def test_get_fetches_once(cache, tiny):
    assert path_of("tiny") is None
    folder = cache / "corpora" / "tiny"
    assert get("tiny") == folder == get("tiny") == path_of("tiny")
    assert tiny == [((CORPORA["tiny"].package,), folder)]
    (folder / "a" / "b.md").write_bytes(b"hal")
    assert path_of("tiny") is None


def test_a_name_stands_for_a_file_before_it_stands_for_a_corpus(cache, tiny, monkeypatch):
    monkeypatch.chdir(cache)
    assert located("hub:some/where") == "hub:some/where" and tiny == []
    assert located("tiny") == str(cache / "corpora" / "tiny") and len(tiny) == 1
    (cache / "tiny").mkdir()
    assert located("tiny") == "tiny"


def test_what_brings_a_corpus_can_be_told(cache, tiny):
    assert located("tiny", lambda name: cache / name) == str(cache / "tiny") and tiny == []


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(NotFound, match="some: no such file, folder or corpus"):
        located("some")
    with pytest.raises(NotFound, match=r'shakespear: no such file, folder or corpus; did you mean "shakespeare"\?'):
        located("shakespear")
    with pytest.raises(NotFound, match=r'no corpus is called "shakespear"; did you mean "shakespeare"\?'):
        find("shakespear")
