from __future__ import annotations

from pathlib import Path

from cutaway.base.errors import BadInput, CutawayError, MissingExtra, NotFound


def test_bad_input_is_one_line_that_names_file_and_field():
    error = BadInput("not a number", source=Path("config.json"), field="heads")
    assert str(error) == "config.json: heads: not a number"
    assert (error.message, error.source, error.field) == ("not a number", Path("config.json"), "heads")
    assert str(BadInput("empty")) == "empty"
    assert str(BadInput("empty", source="x.gguf")) == "x.gguf: empty"
    assert str(BadInput("empty", field="heads")) == "heads: empty"


def test_a_missing_extra_says_what_to_install():
    error = MissingExtra("nicegui", "serve")
    assert "nicegui" in str(error)
    assert 'pip install "cutaway[serve]"' in str(error)


def test_every_error_is_also_the_kind_that_python_code_expects():
    assert issubclass(BadInput, ValueError) and issubclass(BadInput, CutawayError)
    assert issubclass(MissingExtra, ImportError) and issubclass(MissingExtra, CutawayError)
    assert issubclass(NotFound, CutawayError)
