from __future__ import annotations

import json

import pytest

from cutaway.base.errors import BadInput
from cutaway.train.metrics import Metrics


@pytest.fixture
def metrics(tmp_path):
    found = Metrics(tmp_path / "metrics.jsonl")
    for step in range(1, 6):
        found.append({"step": step, "loss": 1 / step, "note": "雪"})
    return found


def test_a_line_is_an_object_with_its_characters_as_they_are(metrics):
    lines = metrics.path.read_text(encoding="utf-8").split("\n")
    assert json.loads(lines[1]) == {"step": 2, "loss": 0.5, "note": "雪"} and "雪" in lines[1] and lines[-1] == ""
    assert [line["step"] for line in metrics.read()] == [1, 2, 3, 4, 5]


def test_nothing_yet_is_nothing(tmp_path):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.truncate(3)
    assert metrics.read() == [] and not metrics.path.exists()


@pytest.mark.parametrize("torn", [b'{"step": 6, "lo', b"{", b"\xe9\x9b", b'{"step": 6, "loss": 0.1}', b"{\n"])
def test_a_torn_last_line_is_passed_over_and_dropped(metrics, torn):
    with metrics.path.open("ab") as file:
        file.write(torn)
    assert [line["step"] for line in metrics.read()] == [1, 2, 3, 4, 5]
    metrics.truncate(5)
    metrics.append({"step": 6, "loss": 0.0})
    assert [line["step"] for line in metrics.read()] == [1, 2, 3, 4, 5, 6]


def test_steps_that_will_be_made_again_are_forgotten(metrics):
    metrics.truncate(3)
    assert [line["step"] for line in metrics.read()] == [1, 2, 3]
    metrics.truncate(0)
    assert metrics.read() == []


def test_what_is_not_finite_is_null(metrics):
    metrics.append({"step": 6, "loss": float("nan"), "norm": float("inf")})
    assert metrics.read()[-1] == {"step": 6, "loss": None, "norm": None}
    assert "NaN" not in metrics.path.read_text(encoding="utf-8"), "NaN is no JSON"


def test_a_broken_line_in_the_middle_is_named(metrics):
    lines = metrics.path.read_bytes().split(b"\n")
    metrics.path.write_bytes(b"\n".join([lines[0], b"oops", *lines[2:]]))
    with pytest.raises(BadInput, match=r"metrics.jsonl: line 2"):
        metrics.read()
