"""Every lie that a header can tell is found out before anything is read; then Hypothesis looks for more lies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cutaway.base.errors import BadInput
from cutaway.weights.checkpoint import Checkpoint
from cutaway.weights.header import BYTES, Entry, read_header


def written(path: Path, header: Any, data: bytes, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def told(**changed: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} | changed


def test_reads_what_the_library_writes(tmp_path):
    held = {
        "one": torch.zeros(2, 3),
        "none": torch.zeros(0, 4),
        "number": torch.tensor(1, dtype=torch.int64),
        "half": torch.zeros(3, dtype=torch.bfloat16),
        "flags": torch.zeros(5, dtype=torch.bool),
    }
    save_file(held, tmp_path / "a.safetensors", metadata={"format": "pt"})
    entries = read_header(tmp_path / "a.safetensors")
    assert {name: entry.shape for name, entry in entries.items()} == {name: tuple(t.shape) for name, t in held.items()}
    assert {name: entry.end - entry.start for name, entry in entries.items()} == {n: t.nbytes for n, t in held.items()}
    assert entries["half"].dtype == "BF16" and isinstance(entries["one"], Entry)


def test_knows_the_width_of_every_kind():
    names = {"F32": "float32", "F64": "float64", "F16": "float16", "BF16": "bfloat16", "I8": "int8", "BOOL": "bool"}
    names |= {"U8": "uint8", "I16": "int16", "I32": "int32", "I64": "int64", "U16": "uint16", "U32": "uint32"}
    names |= {"U64": "uint64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "C64": "complex64"}
    names |= {"F8_E8M0": "float8_e8m0fnu"}
    assert {kind: getattr(torch, name).itemsize for kind, name in names.items()} == BYTES


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"w": told(dtype="F31")}, 24, r"w\.dtype: 'F31' is not known"),
        ({"w": told(dtype=4)}, 24, r"w\.dtype: 4 is not known"),
        (
            {"w": told(shape=[2, 4])},
            24,
            r"w\.data_offsets: 24 bytes are given to shape \(2, 4\) of F32, which takes 32",
        ),
        (
            {"w": told(shape=[2, 2])},
            24,
            r"w\.data_offsets: 24 bytes are given to shape \(2, 2\) of F32, which takes 16",
        ),
        ({"w": told(shape=[-2, -3])}, 24, r"w\.shape: expected up to 8 whole numbers"),
        ({"w": told(shape=[2, 3.0])}, 24, r"w\.shape: expected"),
        ({"w": told(shape=[2, True])}, 24, r"w\.shape: expected"),
        ({"w": told(shape=[2**62, 2**62])}, 24, r"w\.data_offsets: 24 bytes are given to shape"),
        ({"w": told(shape="23")}, 24, r"w\.shape: expected"),
        ({"w": told(shape=[1] * 9)}, 24, r"w\.shape: expected"),
        ({"w": told(data_offsets=[24, 0])}, 24, r"w\.data_offsets: expected a start and an end"),
        ({"w": told(data_offsets=[0])}, 24, r"w\.data_offsets: expected"),
        ({"w": told(data_offsets=[2**70, 2**70 + 24])}, 24, r"w\.data_offsets: expected"),
        ({"w": told(data_offsets=[8, 32])}, 32, r"w\.data_offsets: starts at byte 8 of the data, .* ends at 0"),
        ({"w": told(), "v": told()}, 24, r"[vw]\.data_offsets: starts at byte 0 of the data, .* ends at 24"),
        ({"w": told()}, 23, r"w\.data_offsets: ends at byte 24 of the data, the file has only 23: cut off"),
        ({"w": told()}, 25, r"the file has 25 bytes of data, its tensors take 24"),
        ({"w": {"dtype": "F32", "shape": [2, 3]}}, 24, r"w\.data_offsets: expected"),
        ({"w": []}, 24, r"w: expected an object"),
        ([], 24, "expected a JSON object"),
        (b'{"w": 1, "w": 2}', 24, '"w": this name stands twice'),
        (b"{", 24, "not JSON"),
        (b"\xff\xff", 24, "not UTF-8"),
        (b"[" * 100_000, 0, "not JSON"),
    ],
)
def test_lies_are_named(header, data, message, tmp_path):
    path = written(tmp_path / "a.safetensors", header, bytes(data))
    with pytest.raises(BadInput, match=rf"a\.safetensors: {message}"):
        read_header(path)
    if header != {"w": told(shape=[1] * 9)}:  # more axes than a model has, and yet well formed
        with pytest.raises(SafetensorError), safe_open(path, framework="pt") as file:
            file.get_tensor("w")


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**9, 200])
def test_a_header_longer_than_the_file(length, tmp_path):
    path = written(tmp_path / "a.safetensors", {"w": told()}, bytes(24), length=length)
    with pytest.raises(BadInput, match=rf"header length: says {length} bytes of header"):
        read_header(path)


@pytest.mark.parametrize("content", [b"", b"1234567", b"GGUF" + bytes(100), b"\x80\x02}q\x00." * 30, b"PK\x03\x04" * 9])
def test_foreign_files(content, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.safetensors: "):
        read_header(path)


def test_every_cut_is_noticed(tiny_folder, tmp_path):
    whole = (tiny_folder / "model.safetensors").read_bytes()
    start = int.from_bytes(whole[:8], "little") + 8
    for at in (0, 1, 7, 8, 9, start - 1, start, start + 1, len(whole) - 1):
        cut = tmp_path / "cut.safetensors"
        cut.write_bytes(whole[:at])
        with pytest.raises(BadInput, match=r"cut\.safetensors"):
            read_header(cut)


# --- fuzzing -----------------------------------------------------------------------------------------------------

NUMBERS = st.one_of(st.integers(-3, 70), st.sampled_from([2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**30]))
JUNK = st.one_of(NUMBERS, st.none(), st.booleans(), st.text(max_size=4), st.floats(), st.lists(NUMBERS, max_size=4))
FIELDS = ("dtype", "shape", "data_offsets", "name", "more")


@st.composite
def mutations(draw: Any) -> tuple[str, Any]:
    """One change of a valid file: a header field, the header's length, a cut, or bytes turned over."""
    kind = draw(st.sampled_from(["field", "field", "field", "length", "cut", "bytes", "grown"]))
    if kind == "field":
        field = draw(st.sampled_from(FIELDS))
        value = {
            "dtype": st.one_of(st.sampled_from([*BYTES, "F4"]), JUNK),
            "shape": st.one_of(st.lists(NUMBERS, max_size=5), JUNK),
            "data_offsets": st.one_of(st.tuples(NUMBERS, NUMBERS).map(list), JUNK),
        }.get(field, JUNK)
        return kind, (draw(st.integers(0, 30)), field, draw(value))
    if kind == "length":
        return kind, draw(st.one_of(st.integers(0, 4000), st.integers(0, 2**64 - 1)))
    if kind == "bytes":
        return kind, draw(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
    return kind, draw(st.floats(0, 1))


def mutated(whole: bytes, mutation: tuple[str, Any]) -> bytes:
    kind, change = mutation
    length = int.from_bytes(whole[:8], "little")
    if kind == "length":
        return change.to_bytes(8, "little") + whole[8:]
    if kind == "cut":
        return whole[: int(change * len(whole))]
    if kind == "grown":
        return whole + bytes(int(change * 100) + 1)
    if kind == "bytes":
        turned = bytearray(whole)
        for at, value in change:  # half of them in the header, where it hurts
            turned[int(at * 2 * (length + 7)) if at < 0.5 else int(at * (len(whole) - 1))] = value
        return bytes(turned)
    header = json.loads(whole[8 : 8 + length])
    which, field, value = change
    name = sorted(header)[which % len(header)]
    if field == "name":
        header[str(value)] = header.pop(name)
    else:
        header[name][field] = value
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + whole[8 + length :]


def check_mutation(whole: bytes, mutation: tuple[str, Any], folder: Path) -> None:
    """Either every tensor is read, in the shape that the header says, or the file is refused in one line."""
    path = folder / "model.safetensors"
    path.write_bytes(mutated(whole, mutation))
    try:
        entries = read_header(path)
    except BadInput as error:
        assert error.source == path and "\n" not in str(error)
        return
    # Room is made for no more than the file has: the offsets were checked against it.
    assert sum(entry.end - entry.start for entry in entries.values()) <= path.stat().st_size
    try:
        with Checkpoint(folder) as checkpoint:
            for name, entry in entries.items():
                assert tuple(checkpoint.tensor(name).shape) == entry.shape
    except BadInput as error:  # the library is stricter in a few things: metadata, spaces
        assert error.source == path and "\n" not in str(error)


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    held = {"a.weight": torch.zeros(3, 4), "a.bias": torch.zeros(3, dtype=torch.float16), "b": torch.zeros(5)}
    save_file(held, tmp_path / "whole.safetensors")
    return (tmp_path / "whole.safetensors").read_bytes()


FUZZ = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture], "derandomize": True}


@settings(max_examples=100, **FUZZ)
@given(mutation=mutations())
def test_mutated_files(mutation, whole, tmp_path):
    check_mutation(whole, mutation, tmp_path)


@pytest.mark.proof
@settings(max_examples=2000, **FUZZ)
@given(mutation=mutations())
def test_mutated_files_at_length(mutation, whole, tmp_path):
    check_mutation(whole, mutation, tmp_path)
