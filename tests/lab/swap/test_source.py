"""The reader's file: what cannot be opened is said in one line."""

from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.lab.swap.source import own_lines, present, split, take


def test_what_was_typed_is_taken_apart(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("", encoding="utf-8")
    assert split(f"ops.attend={file}:other") == ("ops.attend", file, "other")
    assert split(f"ops.attend={file}") == ("ops.attend", file, None)


@pytest.mark.parametrize("given", ["ops.attend", "=x", "ops.attend="])
def test_a_malformed_one_is_refused(given):
    with pytest.raises(BadInput, match="write PART=FILE"):
        split(given)


def test_no_such_file_names_the_nearest(tmp_path):
    (tmp_path / "mine.py").write_text("", encoding="utf-8")
    with pytest.raises(BadInput, match=r'no such file; did you mean "mine.py"'):
        present(tmp_path / "mime.py")
    with pytest.raises(BadInput, match="is a folder"):
        present(tmp_path)
    assert present(tmp_path / "mine.py") == (tmp_path / "mine.py").resolve()


def test_syntax_missing_and_traceback(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("x = 1\ndef f(:\n", encoding="utf-8")
    _, verdict = take("p", file, "f")
    assert verdict is not None and verdict.outcome == "unreadable" and "line 2" in verdict.message
    file.write_text("def attention():\n    return 1 / 0\n", encoding="utf-8")
    _, verdict = take("p", file, "attend")
    assert verdict is not None and verdict.outcome == "missing" and 'did you mean "attention"' in verdict.message
    found, verdict = take("p", file, "attention")
    assert verdict is None
    with pytest.raises(ZeroDivisionError) as caught:
        found()
    assert own_lines(caught.value, str(file)) == ["line 2, in attention: return 1 / 0"]


def test_bytes_that_are_no_text(tmp_path):
    file = tmp_path / "mine.py"
    file.write_bytes(b"\xff\xfe\x00")
    _, verdict = take("p", file, "f")
    assert verdict is not None and verdict.outcome == "unreadable"
