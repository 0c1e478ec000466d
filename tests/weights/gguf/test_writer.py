"""The gguf package and we read what we write; half a file is never left; one tensor at a time is held."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from cutaway.base.errors import BadInput
from cutaway.weights.gguf.reader import read_gguf
from cutaway.weights.gguf.types import TENSOR_TYPES
from cutaway.weights.gguf.writer import write_gguf

METADATA = {
    "general.architecture": "llama",
    "general.name": "Ünïcode 名字 🙂",
    "llama.context_length": 8192,
    "llama.rope.freq_base": 100000.0,
    "a.negative": -5,
    "a.large": 2**40,
    "a.flag": True,
    "tokenizer.ggml.tokens": ["<s>", "é", "", "日本"],
    "tokenizer.ggml.token_type": [3, 1, 1, 1],
    "tokenizer.ggml.scores": [0.0, -1.5, 2.25, -1000.0],
    "a.flags": [True, False],
}


def some_bytes(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def tensors() -> list[tuple[str, tuple[int, ...], str, Any]]:
    """One tensor of each type that ggml has, with one to four dimensions."""
    found = []
    for number, format in TENSOR_TYPES.items():
        shape = (*(3, 2, 2)[: number % 4], 2 * format.weights)
        size = int(np.prod(shape)) // format.weights * format.bytes
        found.append((f"tensor.{format.name}", shape, format.name, some_bytes(size, number)))
    return found


@pytest.mark.parametrize("alignment", [None, 1, 64, 4096])
def test_the_twin_reads_what_we_write(tmp_path: Path, alignment: int | None) -> None:
    path = tmp_path / "a.gguf"
    metadata = METADATA | ({} if alignment is None else {"general.alignment": alignment})
    write_gguf(path, metadata, tensors())
    theirs = GGUFReader(path)
    assert {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")} == metadata
    assert theirs.fields["GGUF.version"].contents() == 3
    assert [tensor.name for tensor in theirs.tensors] == [name for name, *_ in tensors()]
    for tensor, (_, shape, format, data) in zip(theirs.tensors, tensors(), strict=True):
        assert tensor.tensor_type.name.lower() == format
        assert tuple(reversed(tensor.shape.tolist())) == shape
        assert tensor.data_offset % (alignment or 32) == 0
        assert tensor.data.tobytes() == data.tobytes()
    assert path.stat().st_size % (alignment or 32) == 0


def test_a_file_survives_reading_and_writing_byte_for_byte(tmp_path: Path) -> None:
    first, second = tmp_path / "first.gguf", tmp_path / "second.gguf"
    types = {"a.large": "int64", "llama.rope.freq_base": "float64", "tokenizer.ggml.token_type": "array uint8"}
    write_gguf(first, METADATA | {"a.empty": []}, tensors(), types=types | {"a.empty": "array string"})
    file = read_gguf(first)
    assert file.metadata == METADATA | {"a.empty": []}
    assert types.items() <= file.types.items()
    again = [(tensor.name, tensor.shape, tensor.format, tensor.data) for tensor in file.tensors.values()]
    write_gguf(second, file.metadata, again, types=file.types)
    assert second.read_bytes() == first.read_bytes()


def test_payloads_may_be_bytes_arrays_or_functions(tmp_path: Path) -> None:
    numbers = np.arange(12, dtype=np.float16).reshape(3, 4)
    raw = numbers.tobytes()
    given = [raw, bytearray(raw), memoryview(raw), numbers, np.asfortranarray(numbers), lambda: raw, lambda: numbers]
    write_gguf(tmp_path / "a.gguf", {}, [(str(i), (3, 4), "f16", payload) for i, payload in enumerate(given)])
    assert {tensor.data.tobytes() for tensor in read_gguf(tmp_path / "a.gguf").tensors.values()} == {raw}


def test_one_tensor_at_a_time_is_held(tmp_path: Path) -> None:
    size = 1 << 20
    entries = ((f"t{i}", (size,), "i8", lambda i=i: some_bytes(size, i)) for i in range(8))
    tracemalloc.start()
    try:
        write_gguf(tmp_path / "a.gguf", {}, entries)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The random generator takes up to two tensors while it makes one, and the one before is still held.
    assert peak < 3.5 * size
    file = read_gguf(tmp_path / "a.gguf")
    assert all(np.array_equal(file.tensors[f"t{i}"].data, some_bytes(size, i)) for i in range(8))


def test_nothing_is_left_of_a_file_that_fails(tmp_path: Path) -> None:
    def fails() -> bytes:
        raise RuntimeError("no more numbers")

    path = tmp_path / "a.gguf"
    path.write_bytes(b"what was there before")
    with pytest.raises(RuntimeError, match="no more numbers"):
        write_gguf(path, METADATA, [("a", (4,), "i8", bytes(4)), ("b", (4,), "i8", fails)])
    assert [found.name for found in tmp_path.iterdir()] == ["a.gguf"]
    assert path.read_bytes() == b"what was there before"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([("a", (4,), "i8", bytes(4)), ("a", (4,), "i8", bytes(4))], "tensor a: each tensor needs a name of its own"),
        ([("", (4,), "i8", bytes(4))], "tensor : each tensor needs a name of its own"),
        ([("a", (4,), "q3_x", bytes(4))], "tensor a: GGUF has no format 'q3_x'"),
        ([("a", (), "i8", b"")], "tensor a: shape .* needs 1 to 4 dimensions"),
        ([("a", (1, 1, 1, 1, 1), "i8", b"a")], "tensor a: shape .* needs 1 to 4 dimensions"),
        ([("a", (4, 0), "i8", b"")], "tensor a: shape .* none of them 0"),
        ([("a", (2, 48), "q8_0", b"")], "tensor a: a row of 48 weights is not a whole number of q8_0 blocks of 32"),
        ([("a", (2, 4), "f32", bytes(31))], r"tensor a: 31 bytes were given for shape \(2, 4\), which takes 32"),
    ],
)
def test_tensors_that_cannot_be_are_refused(tmp_path: Path, wrong: list, message: str) -> None:
    with pytest.raises(BadInput, match=f"a.gguf: {message}"):
        write_gguf(tmp_path / "a.gguf", {}, wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("alignment", [0, 48, -32, 2**32, "32", 32.0, True])
def test_the_alignment_must_be_a_power_of_two(tmp_path: Path, alignment: Any) -> None:
    with pytest.raises(BadInput, match=r"general\.alignment: must be a power of two"):
        write_gguf(tmp_path / "a.gguf", {"general.alignment": alignment}, [])


def test_metadata_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"a\.gguf: some\.key: .* not NoneType"):
        write_gguf(tmp_path / "a.gguf", {"some.key": None}, [])
