from __future__ import annotations

from pathlib import Path

import pytest

from cutaway.base.paths import atomic, expand, home


def test_home_is_what_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path / "here"))
    assert home() == tmp_path / "here"
    assert not home().exists()  # asking for a path must not make it


def test_home_expands_the_tilde_and_is_absolute(monkeypatch):
    monkeypatch.setenv("CUTAWAY_HOME", "~/models")
    assert home() == Path.home() / "models"
    monkeypatch.setenv("CUTAWAY_HOME", "models")
    assert home() == Path.cwd() / "models"


def test_the_tilde_of_nobody_stays(monkeypatch):
    assert expand("~/x") == Path.home() / "x"
    assert expand("~nobody-of-that-name/x") == Path("~nobody-of-that-name/x")
    monkeypatch.setenv("CUTAWAY_HOME", "~nobody-of-that-name/x")
    assert home() == Path.cwd() / "~nobody-of-that-name/x"


@pytest.mark.parametrize("value", [None, "", "  "])
def test_home_without_a_setting_is_the_users_cache(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("CUTAWAY_HOME", raising=False)
    else:
        monkeypatch.setenv("CUTAWAY_HOME", value)
    assert home().is_absolute()
    assert "cutaway" in str(home()).lower()


def test_atomic_makes_folders_and_replaces_the_old_file(tmp_path):
    path = tmp_path / "a" / "b" / "file.gguf"
    for text in ("first", "second"):
        with atomic(path) as partial:
            partial.write_text(text, encoding="utf-8")
            assert partial.parent == path.parent  # the same disk, so that the move is one step
            assert partial.suffix == ".gguf"
            assert not path.exists() or path.read_text(encoding="utf-8") == "first"
        assert path.read_text(encoding="utf-8") == text
    assert [child.name for child in path.parent.iterdir()] == ["file.gguf"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_atomic_leaves_nothing_of_a_failure_and_keeps_the_old_file(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(error), atomic(path) as partial:
        partial.write_text("half", encoding="utf-8")
        raise error
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_says_so_when_nothing_was_written(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "file"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_told_by_the_name_that_was_asked_for(tmp_path):
    path = tmp_path / "gone" / "file.html"
    with pytest.raises(FileNotFoundError) as raised, atomic(path) as partial:
        path.parent.rmdir()
        partial.write_text("new", encoding="utf-8")
    assert raised.value.filename == str(path)
    with pytest.raises(FileNotFoundError) as raised, atomic(path):
        (tmp_path / "another").read_text(encoding="utf-8")
    assert raised.value.filename == str(tmp_path / "another")


def test_atomic_takes_folders(tmp_path):
    path = tmp_path / "model"
    for name in ("first", "second"):
        with atomic(path) as partial:
            partial.mkdir()
            (partial / name).touch()
        assert [child.name for child in path.iterdir()] == [name]
    with pytest.raises(OSError, match="no more"), atomic(path) as partial:
        partial.mkdir()
        (partial / "third").touch()
        raise OSError("no more")
    assert [child.name for child in path.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_share_a_temporary_one(tmp_path):
    with atomic(tmp_path / "file") as one, atomic(tmp_path / "file") as two:
        assert one != two
        one.write_bytes(b"1")
        two.write_bytes(b"2")
    assert (tmp_path / "file").read_bytes() == b"1"  # the outer one ends last
