"""Constraints on the command line: one at a time, read and named where they are wrong."""

from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.cli.constraint import constraint_of


def test_each_option_makes_its_constraint(tmp_path):
    schema, grammar = tmp_path / "形.json", tmp_path / "g.lark"
    schema.write_text('{"type": "object", "properties": {"城市": {"const": "北京"}}}', encoding="utf-8")
    grammar.write_text('start: "a" | "b"\n', encoding="utf-8")
    assert constraint_of(None, None, None, None) == {}
    kinds = [
        constraint_of(schema, None, None, None)["constraint"].kind,
        constraint_of(None, "[0-9]+", None, None)["constraint"].kind,
        constraint_of(None, None, None, grammar)["constraint"].kind,
    ]
    assert kinds == ["json_schema", "regex", "grammar"]
    assert constraint_of(None, None, "yes,no\\, never,北京", None)["constraint"].body == ["yes", "no, never", "北京"]


@pytest.mark.parametrize(
    "given, said",
    [
        ((None, "a", "b", None), "--choice: --regex and --choice cannot both be kept"),
        ((None, "(", None, None), "--regex: .*unclosed"),
        ((None, None, "a,,b", None), "--choice: must be texts"),
    ],
)
def test_what_is_wrong_names_its_option(given, said):
    with pytest.raises(BadInput, match=said):
        constraint_of(*given)


def test_what_is_wrong_in_a_file_names_the_file(tmp_path):
    path = tmp_path / "schema.json"
    for text, said in (
        (b"{", "is no JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"x-guidance": {}}', "x-guidance: is no keyword"),
    ):
        path.write_bytes(text)
        with pytest.raises(BadInput, match=said) as caught:
            constraint_of(path, None, None, None)
        assert str(caught.value).startswith(str(path))
    with pytest.raises(BadInput, match="cannot be read"):
        constraint_of(tmp_path / "none", None, None, None)
