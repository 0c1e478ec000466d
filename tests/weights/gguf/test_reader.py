"""The reader reads what the gguf package writes, and meets every lie in a header with BadInput and little memory."""

from __future__ import annotations

import struct
import tracemalloc
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter, quants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutaway.base.errors import BadInput, NotFound
from cutaway.weights.gguf.file import GgufFile
from cutaway.weights.gguf.reader import read_gguf

NUMBER = count()


class Built:
    """A GGUF file made by hand that knows where each of its fields lies: `fields` is (what, first byte, bytes)."""

    def __init__(self) -> None:
        self.data, self.fields = bytearray(), []

    def put(self, what: str, raw: bytes) -> None:
        self.fields.append((what, len(self.data), len(raw)))
        self.data += raw

    def number(self, what: str, value: int, code: str = "Q") -> None:
        self.put(what, struct.pack("<" + code, value))

    def text(self, what: str, value: bytes) -> None:
        self.number(f"length of {what}", len(value))
        self.put(what, value)

    def entry(self, key: bytes, number: int, payload: bytes = b"") -> None:
        self.text("key", key)
        self.number("value type", number, "I")
        if payload:
            self.put("value", payload)

    def array(self, number: int, count: int, payload: bytes = b"") -> None:
        self.number("element type", number, "I")
        self.number("array length", count)
        if payload:
            self.put("elements", payload)

    def tensor(self, name: bytes, dimensions: tuple[int, ...], number: int, offset: int) -> None:
        self.text("tensor name", name)
        self.number("number of dimensions", len(dimensions), "I")
        for size in dimensions:
            self.number("dimension", size)
        self.number("tensor type", number, "I")
        self.number("tensor offset", offset)


def sample() -> Built:
    """A small valid file with every kind of value and four tensors."""
    built = Built()
    built.put("magic", b"GGUF")
    built.number("version", 3, "I")
    built.number("tensor count", 4)
    built.number("metadata count", 9)
    built.entry(b"general.architecture", 8)
    built.text("string", b"llama")
    built.entry(b"general.alignment", 4, struct.pack("<I", 64))
    for number, code in enumerate("BbHfd"):
        built.entry(b"k%d" % number, {"B": 7, "b": 1, "H": 2, "f": 6, "d": 12}[code], struct.pack("<" + code, 1))
    built.entry(b"tokens", 9)
    built.array(8, 3)
    for token in (b"<s>", "é".encode(), b""):
        built.text("element", token)
    built.entry(b"nested", 9)
    built.array(9, 2)
    built.array(5, 2, struct.pack("<2i", -1, 1))
    built.array(0, 3, b"abc")
    built.tensor(b"token_embd.weight", (64, 3), 8, 0)
    built.tensor(b"norm", (5,), 0, 256)
    built.tensor(b"half", (2, 3, 1, 2), 1, 320)
    built.tensor(b"packed", (256,), 12, 384)
    built.put("padding", bytes(-len(built.data) % 64))
    built.put("data", bytes(range(256)) * 2 + b"padded" * 3)
    del built.data[built.fields[-1][1] + 384 + 144 :]  # nothing after the last tensor
    return built


SAMPLE = sample()


def read(folder: Path, data: bytes) -> GgufFile:
    path = folder / f"{next(NUMBER)}.gguf"  # a new one each time: a mapped file cannot be overwritten everywhere
    path.write_bytes(data)
    return read_gguf(path)


def changed(what: str, value: int | bytes, index: int = 0) -> bytes:
    """The sample with one of its fields (the `index`-th of that name) overwritten."""
    _, start, size = [field for field in SAMPLE.fields if field[0] == what][index]
    raw = value if isinstance(value, bytes) else value.to_bytes(size, "little")
    return bytes(SAMPLE.data[:start] + raw + SAMPLE.data[start + size :])


def test_the_sample_is_read(tmp_path: Path) -> None:
    file = read(tmp_path, SAMPLE.data)
    assert file.version == 3 and file.alignment == 64
    assert file.metadata["tokens"] == ["<s>", "é", ""]
    assert file.metadata["nested"] == [[-1, 1], [97, 98, 99]]
    assert file.metadata["k0"] is True and file.metadata["k4"] == 1.0
    shapes = {tensor.name: (tensor.shape, tensor.format) for tensor in file.tensors.values()}
    assert shapes == {
        "token_embd.weight": ((3, 64), "q8_0"),
        "norm": ((5,), "f32"),
        "half": ((2, 1, 3, 2), "f16"),
        "packed": ((256,), "q4_k"),
    }
    start = SAMPLE.fields[-1][1]
    for name, offset, size in (
        ("token_embd.weight", 0, 204),
        ("norm", 256, 20),
        ("half", 320, 24),
        ("packed", 384, 144),
    ):
        assert file.tensors[name].offset == start + offset
        assert file.tensors[name].data.tobytes() == SAMPLE.data[start + offset : start + offset + size]


def test_version_2_is_read_too(tmp_path: Path) -> None:
    assert read(tmp_path, changed("version", 2)).version == 2


@pytest.mark.parametrize("alignment", [None, 8, 128])
def test_what_the_twin_writes_is_read(tmp_path: Path, alignment: int | None) -> None:
    metadata: dict[str, tuple[str, Any]] = {
        "a.string": ("string", "naïve 名字"),
        "a.flag": ("bool", False),
        "a.strings": ("array", ["x", "", "🙂"]),
        "a.integers": ("array", [1, -2, 3]),
        "a.floats": ("array", [0.5, -0.25]),
        "a.uint8": ("uint8", 255),
        "a.int8": ("int8", -128),
        "a.uint16": ("uint16", 65535),
        "a.int16": ("int16", -32768),
        "a.uint32": ("uint32", 2**32 - 1),
        "a.int32": ("int32", -(2**31)),
        "a.uint64": ("uint64", 2**64 - 1),
        "a.int64": ("int64", -(2**63)),
        "a.float32": ("float32", 0.5),
        "a.float64": ("float64", 0.1),
    }
    random = np.random.default_rng(0)
    tensors: list[tuple[str, np.ndarray, GGMLQuantizationType | None]] = [
        ("whole", random.standard_normal((3, 5)).astype(np.float32), None),
        ("half", random.standard_normal((2, 3, 4)).astype(np.float16), None),
    ]
    for kind in (GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q8_0):
        packed = quants.quantize(random.standard_normal((7, 96)).astype(np.float32), kind)
        tensors.append((kind.name, packed, kind))
    writer = GGUFWriter(tmp_path / "a.gguf", "llama")
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    for key, (kind, value) in metadata.items():
        getattr(writer, f"add_{kind}")(key, value)
    for name, data, kind in tensors:
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    file = read_gguf(tmp_path / "a.gguf")
    assert file.alignment == (alignment or 32)
    for key, (kind, value) in metadata.items():
        assert file.metadata[key] == value
        assert file.types[key].split()[0] == kind
    assert file.metadata["general.architecture"] == "llama"
    assert list(file.tensors) == [name for name, *_ in tensors]
    for name, data, kind in tensors:
        assert file.tensors[name].data.tobytes() == data.tobytes()
        assert file.tensors[name].shape == ((7, 96) if kind else data.shape)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nowhere\.gguf: there is no such file"):
        read_gguf(tmp_path / "nowhere.gguf")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.gguf").mkdir()
    with pytest.raises(BadInput, match=r"folder\.gguf"):
        read_gguf(tmp_path / "folder.gguf")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "header: is not a GGUF file: 0 bytes"),
        (b"PK\3\4" + bytes(100), "header: magic: is not a GGUF file: it begins with b'PK"),
        (changed("magic", b"FUGG"), "header: byte order: is a big-endian GGUF file"),
        (changed("version", b"\0\0\0\3"), "header: byte order: is a big-endian GGUF file"),
        (changed("version", 1), "header: version: is version 1; versions 2 and 3"),
        (changed("version", 4), "header: version: is version 4"),
        (changed("tensor count", 2**63), f"header: tensor count: claims {2**63} tensors"),
        (changed("tensor count", 5), "(name of tensor 4|tensor 4|tensor .*): "),
        (changed("metadata count", 2**64 - 1), f"header: metadata count: claims {2**64 - 1} entries"),
        (changed("length of key", 2**40), f"key of metadata entry 0: needs {2**40} bytes"),
        (changed("length of string", 2**64 - 1), "general.architecture: needs"),
        (changed("value type", 13, 3), "k1: has type 13"),
        (changed("value", 0), "general.alignment: must be a power of two, not 0"),
        (changed("value", 48), "general.alignment: must be a power of two, not 48"),
        (changed("value type", 5, 1), "general.alignment: must be a uint32, not int32"),
        (changed("value type", 6, 1), "general.alignment: must be a uint32, not float32"),
        (changed("array length", 2**60), f"tokens: length: claims {2**60} elements"),
        (changed("element", b"\xff<>"), r"tokens\[0\]: is not UTF-8"),
        (changed("key", b"k1", 2), "k1: this metadata key appears twice"),
        (changed("length of tensor name", 2**50), f"name of tensor 0: needs {2**50} bytes"),
        (changed("tensor name", b"norm", 2), "tensor norm: this tensor name appears twice"),
        (changed("tensor name", b"h\xa9lf", 2), "name of tensor 2: is not UTF-8"),
        (changed("number of dimensions", 0), "tensor token_embd.weight: has 0 dimensions"),
        (changed("number of dimensions", 5), "tensor token_embd.weight: has 5 dimensions"),
        (changed("number of dimensions", 2**32 - 1), f"tensor token_embd.weight: has {2**32 - 1} dimensions"),
        (changed("dimension", 0, 1), "tensor token_embd.weight: dimensions: has a dimension of 0: 0 x 64"),
        (
            changed("dimension", 65),
            "tensor token_embd.weight: dimensions: has rows of 65 weights, not a whole number of q8_0 blocks of 32",
        ),
        (changed("dimension", 2**63, 1), f"tensor token_embd.weight: {2**63} x 64 of q8_0 would take"),
        (changed("dimension", 2**62 + 1, 2), f"tensor norm: {2**62 + 1} of f32 would take {2**64 + 4} bytes"),
        (changed("tensor type", 4), "tensor token_embd.weight: type: has type 4"),
        (changed("tensor type", 99, 3), "tensor packed: type: has type 99"),
        (changed("tensor offset", 257, 1), "tensor norm: offset: 257 is not a multiple of the alignment 64"),
        (changed("tensor offset", 2**64 - 64, 1), "tensor norm: offset: 20 bytes at offset .* end beyond the file"),
        (changed("tensor offset", 448, 3), "tensor packed: offset: 144 bytes at offset 448 end beyond the file"),
        (changed("tensor offset", 192, 1), "tensor norm: offset: begins at 192, inside tensor token_embd.weight"),
    ],
)
def test_each_lie_is_met_by_name(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=rf"\d+\.gguf: {message}"):
        read(tmp_path, data)


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    for size in range(len(SAMPLE.data)):
        with pytest.raises(BadInput):
            read(tmp_path, SAMPLE.data[:size])


def dense(kind: str, amount: int) -> bytes:
    """A file as full as can be of things that are small in the file and larger in memory."""
    built = Built()
    tensors, entries = (amount if kind == "tensors" else 0), (amount if kind == "entries" else 1)
    built.data += struct.pack("<4sIQQ", b"GGUF", 3, tensors, entries)
    if kind == "entries":
        for number in range(amount):
            built.entry(b"%x" % number, 0, b"\1")
        return bytes(built.data)
    if kind == "tensors":
        built.entry(b"general.alignment", 4, struct.pack("<I", 1))
        for number in range(amount):
            built.tensor(b"%x" % number, (1,), 24, number)
        return bytes(built.data) + bytes(amount)
    number, element = {
        "bytes": (0, b"\xff"),
        "doubles": (12, struct.pack("<d", 0.1)),
        "empty strings": (8, bytes(8)),
        "short strings": (8, struct.pack("<Q", 2) + "é".encode()),
        "empty arrays": (9, struct.pack("<IQ", 0, 0)),
    }[kind]
    built.entry(b"array", 9)
    built.array(number, amount, element * amount)
    return bytes(built.data)


KINDS = ["bytes", "doubles", "empty strings", "short strings", "empty arrays", "entries", "tensors"]


def peak_of(folder: Path, data: bytes) -> tuple[GgufFile | BadInput, int]:
    """What reading `data` gives, and the memory it took at most."""
    tracemalloc.start()
    try:
        try:
            return read(folder, data), tracemalloc.get_traced_memory()[1]
        except BadInput as error:
            return error, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_bounded_by_the_file(tmp_path: Path, kind: str) -> None:
    data = dense(kind, 20_000)
    file, peak = peak_of(tmp_path, data)
    assert isinstance(file, GgufFile)
    # Python's smallest objects: an entry of 14 bytes becomes two strings in two dicts, a tensor of 37 an object in one.
    assert peak < 40 * len(data)


INTERESTING = [0, 1, 2, 3, 4, 5, 8, 9, 31, 32, 63, 64, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1]
SPOTS = sorted({start + size for _, start, size in SAMPLE.fields} | {start for _, start, _ in SAMPLE.fields})
VALUES = st.one_of(
    st.sampled_from(INTERESTING), st.integers(0, len(SAMPLE.data) + 64), st.integers(0, 2**64 - 1)
)  # what a length, a count or an offset may claim


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """The sample with one to three wounds: a field overwritten or nudged, bits flipped, bytes cut out or put in."""
    data = bytearray(SAMPLE.data)
    for _ in range(draw(st.integers(1, 3))):
        _, start, size = draw(st.sampled_from(SAMPLE.fields))
        spot = max(draw(st.sampled_from(SPOTS)) + draw(st.sampled_from([-1, 0, 0, 1])), 0)
        match draw(st.sampled_from(["set", "set", "nudge", "flip", "remove", "insert", "truncate"])):
            case "set":
                value = draw(VALUES) % (1 << 8 * min(size, 8) or 1)
                data[start : start + size] = value.to_bytes(size, "little")
            case "nudge":
                value = int.from_bytes(data[start : start + size], "little") + draw(st.sampled_from([-1, 1]))
                data[start : start + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
            case "flip":
                for place in draw(st.lists(st.integers(0, len(SAMPLE.data) - 1), min_size=1, max_size=4)):
                    if place < len(data):
                        data[place] ^= 1 << draw(st.integers(0, 7))
            case "remove":
                del data[spot : spot + draw(st.integers(1, 16))]
            case "insert":
                data[spot:spot] = draw(st.binary(min_size=1, max_size=16))
            case "truncate":
                del data[spot:]
    return bytes(data)


def check_one(folder: Path, data: bytes) -> None:
    """Whatever comes: a file whose tensors can be looked at, or BadInput in one line that names the file."""
    bound = 40 * len(data) + 100_000  # the constant: paths, the map, an error and its text
    result, peak = peak_of(folder, data)
    if peak >= bound:  # what other threads take meanwhile counts too, but not twice in a row
        result, peak = peak_of(folder, data)
    assert peak < bound
    if isinstance(result, BadInput):
        assert ".gguf: " in str(result) and str(result).isprintable()
    else:
        for tensor in result.tensors.values():
            assert tensor.data.nbytes == tensor.bytes > 0
            tensor.data.sum()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutated")


def test_every_field_set_to_every_interesting_value(folder: Path) -> None:
    for _, start, size in SAMPLE.fields[:-2]:
        for value in INTERESTING:
            if value < 1 << 8 * size:
                raw = value.to_bytes(size, "little")
                check_one(folder, bytes(SAMPLE.data[:start] + raw + SAMPLE.data[start + size :]))


FUZZ = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


@settings(FUZZ, max_examples=150, derandomize=True)
@given(data=mutated())
def test_mutated_files(folder: Path, data: bytes) -> None:
    check_one(folder, data)


@pytest.mark.proof
@settings(FUZZ, max_examples=2000)
@given(data=mutated())
def test_thousands_of_mutated_files(folder: Path, data: bytes) -> None:
    check_one(folder, data)
