from __future__ import annotations

import gzip
import json

import pytest

from cutaway.base.errors import BadInput
from cutaway.data.readers.jsonl import read


def test_texts_come_with_their_lines_and_break_only_at_line_ends(tmp_path):
    texts = ["a\u2028b", "你\n好\u0085", "", "😀"]
    lines = [json.dumps({"id": 1, "body": text}, ensure_ascii=False) for text in texts]
    content = ("\ufeff" + "\n\n".join(lines) + "\r\n").encode("utf-8")
    for path, held in ((tmp_path / "a.jsonl", content), (tmp_path / "a.jsonl.gz", gzip.compress(content))):
        path.write_bytes(held)
        assert list(read(path, field="body")) == [(text, str(path), 2 * at + 1) for at, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "a"', "a.jsonl: line 2: not JSON"),
        (b"[", "not JSON: .*; a list over several lines is no JSONL"),
        (b'["a"]', "line 2: expected an object, not a list"),
        (b'{"txt": "a"}', r'line 2: no field "text"; did you mean "txt"\?'),
        (b'{"text": 3}', "line 2: text: must be text, not int"),
        (b'{"text": "\xe4\xbd"}', r"line 2: not UTF-8 at byte 25 \(0xe4"),
        (b'{"text": "a\\ud800"}', "line 2: text: character 1 is half of a surrogate pair"),
        (b"[" * 100_000, "line 2: not JSON"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "good"}'.ljust(14) + b"\n" + line + b"\n")
    entries = read(tmp_path / "a.jsonl")
    if b"\xe4" in line:
        message = message.replace("25", str(17 + line.index(b"\xe4")))
    assert next(entries).text == "good"
    with pytest.raises(BadInput, match=message):
        list(entries)
