"""Readers of single fields, and config.json under Hypothesis: a model or one clear line, whatever stands in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutaway.base.errors import BadInput
from cutaway.weights.architectures.table import ARCHITECTURES
from cutaway.weights.fields import Fields, parse_object
from cutaway.weights.huggingface import read_folder, read_spec


@pytest.fixture
def fields() -> Fields:
    data = {"count": 3, "part": 0.5, "yes": True, "none": None, "word": "gelu", "list": ["a", "b"], "in": {"n": -1}}
    return Fields(data, "config.json")


def test_values(fields):
    assert (fields.count("count"), fields.number("count"), fields.number("part")) == (3, 3.0, 0.5)
    assert fields.flag("yes", False) and fields.choice("word", {"gelu": 7}, "gelu") == 7
    assert fields.names("list", ("a", "b", "c"), 2) == ("a", "b")
    assert (fields.ids("count", (0,), 4), fields.ids("none", (1, 2), 4)) == ((3,), (1, 2))
    assert fields.says("none") and not fields.says("absent")


def test_null_counts_as_absent(fields):
    assert fields.count("none", 5) == 5 and fields.count("absent", None) is None
    assert fields.inner("none") is None and fields.names("none", (), 3) is None
    with pytest.raises(BadInput, match=r"config\.json: none: this field is missing"):
        fields.count("none")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda f: f.count("part"), "part: expected a whole number, not 0.5"),
        (lambda f: f.count("yes"), "yes: expected a whole number, not true"),
        (lambda f: f.count("count", most=2), "count: must be from 1 to 2, is 3"),
        (lambda f: f.number("word"), 'word: expected a number, not "gelu"'),
        (lambda f: f.flag("count", True), "count: expected true or false, not 3"),
        (lambda f: f.choice("word", {"gelo": 1}, "gelo"), 'word: "gelu" is not known here; did you mean "gelo"'),
        (lambda f: f.choice("list", {"a": 1}, "a"), "list: .* is not known here .known: a"),
        (lambda f: f.names("list", ("a",), 2), 'list: "b" is not known here'),
        (lambda f: f.names("list", ("a", "b"), 3), "list: expected a list of 3 names"),
        (lambda f: f.ids("count", (0,), 3), "count: must be the id of one of 3 tokens, is 3"),
        (lambda f: f.ids("yes", (0,), 3), "yes: must be the id of one of 3 tokens, is true"),
        (lambda f: f.ids("list", (0,), 3), "list: must be the id of one of 3 tokens"),
        (lambda f: f.inner("list"), "list: expected an object"),
        (lambda f: f.inner("in").count("n"), r"in\.n: must be from 1 to"),
    ],
)
def test_refusals_name_the_field(ask, message, fields):
    with pytest.raises(BadInput, match=rf"config\.json: {message}"):
        ask(fields)


def test_a_value_that_refuses_itself_is_the_files_fault(fields):
    def impossible() -> None:
        raise BadInput("must be above 0", field="RMSNorm.eps")

    with pytest.raises(BadInput, match=r"config\.json: RMSNorm\.eps: must be above 0"):
        fields.told(impossible)


def test_text_that_is_no_object():
    with pytest.raises(BadInput, match=r"a\.json: not JSON: .* \(line 2, column 1\)"):
        parse_object(b"{\n", Path("a.json"))


# --- fuzzing -----------------------------------------------------------------------------------------------------

WORDS = st.sampled_from([*ARCHITECTURES, "gelu", "relu", "linear", "yarn", "full_attention", "", "\n", "é" * 90])
JUNK = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-2, 70),
        st.sampled_from([2**24, 2**31, 2**63, 10**400, -(10**30), 0.5, -1.0, 1e308, float("inf"), float("nan")]),
        WORDS,
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=4,
)
KINDS = st.sampled_from(["linear", "dynamic", "yarn", "llama3", "default"])
PARTS = ["rope_type", "type", "factor", "rope_theta", "low_freq_factor", "high_freq_factor", "beta_fast", "mscale"]
ROPES = st.dictionaries(st.sampled_from(PARTS), KINDS | JUNK)
CHANGES = st.lists(st.tuples(st.integers(0, 99), JUNK), min_size=1, max_size=3)
FUZZ = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture], "derandomize": True}


def check_config(changes: list[tuple[int, Any]], rope: Any, folder: Path) -> None:
    """One field or several are changed: the model is read, or a single line names the file."""
    path = folder / "config.json"
    before = path.read_text(encoding="utf-8")
    config = json.loads(before)
    names = sorted(config)
    config |= {names[which % len(names)]: value for which, value in changes}
    config |= {"rope_scaling": rope} if rope is not None else {}
    path.write_text(json.dumps(config), encoding="utf-8")
    try:
        read_spec(folder)
        read_folder(folder, device="meta")
    except BadInput as error:
        assert "\n" not in str(error) and len(str(error)) < 700
        assert error.source is not None and Path(error.source).is_relative_to(folder)
    finally:
        path.write_text(before, encoding="utf-8")


@settings(max_examples=100, **FUZZ)
@given(changes=CHANGES, rope=st.none() | ROPES)
def test_mutated_configs(changes, rope, tiny_folder):
    check_config(changes, rope, tiny_folder)


@pytest.mark.proof
@settings(max_examples=2000, **FUZZ)
@given(changes=CHANGES, rope=st.none() | ROPES)
def test_mutated_configs_at_length(changes, rope, tiny_folder):
    check_config(changes, rope, tiny_folder)
