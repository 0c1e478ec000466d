"""Files stand where one looks for them, and text is read and written as UTF-8 on every system."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

READERS = {"open": 1, "fdopen": 1, "NamedTemporaryFile": 0, "TemporaryFile": 0, "SpooledTemporaryFile": 1}
PROCESSES = {"run", "Popen", "check_output", "call", "check_call"}
OTHER_OPENS = {"os", "tarfile", "wave", "webbrowser", "zipfile", "Image"}  # their open() is not the one for text


def homeless(root: Path) -> list[str]:
    """Test files without a source: tests/ops/test_rope.py belongs to src/cutaway/ops/rope.py (or the folder rope/).

    tests/house/ has its source in itself; tests/test_NAME.py belongs to NAME.py or NAME.md in the project's folder, or
    to src/cutaway/NAME.py; tests/bench/test_NAME.py to bench/NAME.py.
    """
    faults = []
    for path in sorted((root / "tests").rglob("test_*.py")):
        inner = path.relative_to(root / "tests")
        noun = path.stem.removeprefix("test_")
        if inner.parts[0] == "house":
            continue
        room = root / "src" / "cutaway" / inner.parent
        places = [room / f"{noun}.py", room / noun]
        if inner.parts[0] == "bench":
            places = [root / inner.parent / f"{noun}.py"]
        if len(inner.parts) == 1:
            places += [root / f"{noun}.py", root / f"{noun.upper()}.md"]
        if not any(place.exists() for place in places):
            faults.append(f"{path.relative_to(root).as_posix()} has no source {places[0].relative_to(root).as_posix()}")
    return faults


def full_rooms(root: Path) -> list[str]:
    package = root / "src" / "cutaway"
    files = sorted(package.rglob("__init__.py"))
    return [path.relative_to(root).as_posix() for path in files if path.parent != package and path.stat().st_size]


def doorless(root: Path) -> list[str]:
    """Folders with Python files and no __init__.py: a room that an installed package would lack."""
    folders = {path.parent for path in (root / "src" / "cutaway").rglob("*.py")}
    return [path.relative_to(root).as_posix() for path in sorted(folders) if not (path / "__init__.py").exists()]


def without_encoding(path: Path) -> list[str]:
    """Calls in a file that read or write text in the encoding of whatever system they run on."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and leaves_to_system(node)]
    return [f'{path.name}:{node.lineno} {ast.unparse(node.func)} needs encoding="utf-8"' for node in calls]


def leaves_to_system(call: ast.Call) -> bool:
    method = isinstance(call.func, ast.Attribute)
    name = call.func.attr if method else call.func.id if isinstance(call.func, ast.Name) else ""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if name not in {"read_text", "write_text", *PROCESSES, *READERS}:
        return False
    if "encoding" in given:
        return not (isinstance(given["encoding"], ast.Constant) and given["encoding"].value in ("utf-8", "utf-8-sig"))
    if None in given:
        return False  # **options: not to be seen from here
    if name == "read_text":
        return not call.args
    if name == "write_text":
        return len(call.args) < 2
    if name in PROCESSES:
        return bool({"text", "universal_newlines"} & given.keys())
    receiver = call.func.value if isinstance(call.func, ast.Attribute) else None
    if name == "open" and isinstance(receiver, ast.Name) and receiver.id in OTHER_OPENS:
        return False
    path_open = name == "open" and method and not (isinstance(receiver, ast.Name) and receiver.id == "io")
    place = 0 if path_open else READERS[name]
    mode = given.get("mode", call.args[place] if len(call.args) > place else None)
    if mode is None:
        return name in ("open", "fdopen")  # text is what these take when nobody says
    if not (isinstance(mode, ast.Constant) and isinstance(mode.value, str)):
        return not path_open  # a method `open(name)` of something else, or a mode to write out plainly
    return set(mode.value) <= set("rwaxt+") and "b" not in mode.value


def test_every_test_has_its_source(root):
    faults = homeless(root)
    assert not faults, "\n".join(faults)


def test_room_doors_are_there_and_empty(root):
    faults = full_rooms(root)
    assert not faults, "\n".join(faults)
    faults = doorless(root)
    assert not faults, "\n".join(faults)


def test_text_is_utf8_on_every_system(root):
    paths = [*(root / "src").rglob("*.py"), *(root / "bench").rglob("*.py"), *(root / "tests").rglob("*.py")]
    faults = [fault for path in sorted(paths) for fault in without_encoding(path)]
    assert not faults, "\n".join(faults)


def grow(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("", encoding="utf-8")
    return root


def test_a_homeless_test_is_seen(tmp_path):
    grow(tmp_path, "src/cutaway/ops/rope.py", "src/cutaway/ops/blocks/format.py", "bench/decode.py", "make.py")
    grow(tmp_path, "tests/ops/test_rope.py", "tests/ops/test_blocks.py", "tests/bench/test_decode.py", "README.md")
    grow(tmp_path, "tests/house/test_any.py", "tests/test_make.py", "tests/test_readme.py", "tests/conftest.py")
    assert homeless(tmp_path) == []
    grow(tmp_path, "tests/ops/test_rpoe.py", "tests/test_rope.py", "tests/nn/test_rope.py", "tests/bench/test_x.py")
    assert len(homeless(tmp_path)) == 4


def test_a_full_or_missing_door_is_seen(tmp_path):
    grow(tmp_path, "src/cutaway/__init__.py", "src/cutaway/ops/__init__.py", "src/cutaway/ops/blocks/format.py")
    (tmp_path / "src/cutaway/__init__.py").write_text("x = 1", encoding="utf-8")
    assert full_rooms(tmp_path) == []
    assert doorless(tmp_path) == ["src/cutaway/ops/blocks"]
    (tmp_path / "src/cutaway/ops/__init__.py").write_text("x = 1", encoding="utf-8")
    assert full_rooms(tmp_path) == ["src/cutaway/ops/__init__.py"]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("open(path)", True),
        ("open(path, 'w')", True),
        ("open(path, mode='a')", True),
        ("open(path, mode)", True),
        ("io.open(path, 'r')", True),
        ("open(path, encoding='cp1252')", True),
        ("open(path, encoding='utf-8')", False),
        ("open(path, 'rb')", False),
        ("open(path, **options)", False),
        ("path.open()", True),
        ("path.open('w')", True),
        ("path.open(mode='w')", True),
        ("path.open('r+b')", False),
        ("path.open('w', encoding='utf-8')", False),
        ("os.open(path, 0)", False),
        ("archive.open(member)", False),
        ("os.fdopen(3)", True),
        ("os.fdopen(3, 'wb')", False),
        ("path.read_text()", True),
        ("path.read_text('utf-8')", False),
        ("path.read_text(encoding='utf-8')", False),
        ("path.write_text(text)", True),
        ("path.write_text(text, encoding='utf-8')", False),
        ("tempfile.NamedTemporaryFile()", False),
        ("tempfile.NamedTemporaryFile('w')", True),
        ("subprocess.run(x, text=True)", True),
        ("subprocess.run(x, text=True, encoding='utf-8')", False),
        ("subprocess.run(x)", False),
        ("read(path, encoding='cp1252')", False),
    ],
)
def test_a_call_without_encoding_is_seen(tmp_path, line, wrong):
    path = tmp_path / "file.py"
    path.write_text(line, encoding="utf-8")
    assert bool(without_encoding(path)) is wrong
