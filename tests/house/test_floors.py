"""A room imports strictly lower floors only, and no files inside a room import each other in a circle."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

FLOORS = {
    "base": 0,
    "ops": 1,
    "text": 1,
    "nn": 2,
    "data": 2,
    "tasks": 2,
    "models": 3,
    "weights": 4,
    "train": 5,
    "infer": 5,
    "index": 5,
    "agents": 6,
    "evaluate": 6,
    "rl": 6,
    "recipes": 7,
    "lab": 8,
    "serve": 9,
    "cli": 10,
}
ABOVE_ALL = {"cutaway", "cutaway.__main__"}
OF_THE_TOP = {"__version__"}  # the one thing that every floor may ask of cutaway/__init__.py


def modules(package: Path) -> dict[str, Path]:
    """Every module under `package`, a folder named cutaway, by its full name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = ("cutaway", *path.relative_to(package).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: set[str]) -> list[tuple[int, str]]:
    """(line, module) for every import of Cutaway's own in a file, wherever in it: functions, TYPE_CHECKING and all.

    `from cutaway import x` and `from cutaway.ops import x` count as the module x where there is one.
    """
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                if base == "cutaway" and alias.name in OF_THE_TOP:
                    continue
                inner = f"{base}.{alias.name}"
                found.append((node.lineno, inner if inner in known else base))
    return [(line, module) for line, module in found if module.split(".")[0] == "cutaway"]


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def floor_faults(package: Path) -> list[str]:
    known, faults = modules(package), []
    for name, path in known.items():
        if name in ABOVE_ALL:
            continue
        if room(name) not in FLOORS:
            faults.append(f"{name} stands on no floor")
            continue
        for line, other in imports(name, path, set(known)):
            if other in ABOVE_ALL or room(other) not in FLOORS:
                faults.append(f"{name}:{line} imports {other}, which stands above all floors")
            elif room(other) != room(name) and FLOORS[room(other)] >= FLOORS[room(name)]:
                faults.append(f"{name}:{line} imports {other}: {room(other)} is no lower floor than {room(name)}")
    return faults


def circles(package: Path) -> list[str]:
    known, faults = modules(package), []
    for one in sorted({room(name) for name in known} - {""}):
        graph = {}
        for name, path in known.items():
            if room(name) == one:
                graph[name] = {other for _, other in imports(name, path, set(known)) if room(other) == one}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            faults.append("a circle: " + " -> ".join(error.args[1]))
    return faults


def test_every_room_imports_lower_floors_only(root):
    faults = floor_faults(root / "src" / "cutaway")
    assert not faults, "\n".join(faults)


def test_no_room_has_a_circle(root):
    faults = circles(root / "src" / "cutaway")
    assert not faults, "\n".join(faults)


def tree(folder: Path, **files: str) -> Path:
    """A small cutaway package under `folder`; a file's name is written with _ for each folder in it."""
    package = folder / "cutaway"
    for name, text in files.items():
        path = package.joinpath(*name.split("_")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return package


@pytest.mark.parametrize(
    "line",
    [
        "import cutaway.nn.norms",
        "from cutaway.nn import norms",
        "from cutaway.nn.norms import RMSNorm",
        "from ..nn.norms import RMSNorm",
        "from cutaway import nn",
        "from cutaway.text import tokenizer",  # a neighbour
        "from cutaway import load",
        "import cutaway",
        "from cutaway.nowhere import x",
        "def later():\n    from cutaway.nn.norms import RMSNorm",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from cutaway.nn.norms import RMSNorm",
        "try:\n    import os\nexcept ImportError:\n    import cutaway.nn",
    ],
)
def test_a_wrong_import_is_seen(tmp_path, line):
    package = tree(tmp_path, ops_rope=line, nn_norms="", text_tokenizer="", nn___init__="")
    (package / "nn" / "__init__.py").touch()
    assert len(floor_faults(package)) == 1, line


@pytest.mark.parametrize(
    "line",
    [
        "import torch",
        "from cutaway.base.errors import BadInput",
        "from cutaway import __version__",
        "from . import attend",
    ],
)
def test_a_right_import_is_let_through(tmp_path, line):
    assert floor_faults(tree(tmp_path, ops_rope=line, ops_attend="", base_errors="")) == []


def test_a_file_in_no_room_is_seen(tmp_path):
    assert floor_faults(tree(tmp_path, garage_car="", loose="")) == [
        "cutaway.garage.car stands on no floor",
        "cutaway.loose stands on no floor",
    ]


def test_a_circle_is_seen_even_through_type_checking(tmp_path):
    hidden = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from cutaway.nn.a import A"
    package = tree(tmp_path, nn_a="import cutaway.nn.b", nn_b="from cutaway.nn import c", nn_c=hidden)
    assert len(circles(package)) == 1
    assert circles(tree(tmp_path / "fine", nn_a="import cutaway.nn.b", nn_b="from cutaway.nn import c", nn_c="")) == []
