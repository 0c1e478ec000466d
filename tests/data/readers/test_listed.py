"""A list of texts, or of objects, becomes documents; what is wrong is named by its number."""

from __future__ import annotations

import gzip
import json

import pytest

from cutaway.base.errors import BadInput
from cutaway.data.readers.listed import is_list
from cutaway.data.readers.sources import read


def texts(*sources, **told):
    return [entry.text for entry in read(sources, **told)]


def test_texts_and_objects(tmp_path):
    path = tmp_path / "三国.json"
    path.write_text(json.dumps(["滚滚长江", {"text": "东逝水"}, "a\u2028b"]), encoding="utf-8")
    assert texts(path) == ["滚滚长江", "东逝水", "a\u2028b"]


def test_packed_marked_and_indented(tmp_path):
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbf\n [\n {"body": "x"}\n]'))
    assert is_list(path) and texts(path, field="body") == ["x"]


def test_lines_are_still_lines(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"text": "x"}\n{"text": "y"}\n', encoding="utf-8")
    assert not is_list(path) and texts(path) == ["x", "y"]


@pytest.mark.parametrize(
    "content, said",
    [
        (b'["a", 7]', "item 2"),
        (b'[{"texts": "a"}]', 'no field "text".*texts'),
        (b'[{"text": null}]', "item 1: text"),
        (b'["a"', "not JSON"),
        (b'["\\ud800"]', "surrogate"),
        (b'["a\xff"]', "byte 3"),
        (b"[]", "empty"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, said):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=said):
        texts(path)
