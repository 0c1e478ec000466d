"""Importing costs only what it must: base dependencies alone, no torch for text and help, nothing of one system."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import subprocess
import sys
import sysconfig
import time
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Rooms, and rooms in rooms, whose modules may import the packages of an extra of their own at top level.
EXTRAS = {"ops/triton": "triton", "serve": "serve"}

UNIX_ONLY = {"crypt", "curses", "fcntl", "grp", "nis", "posix", "pty", "pwd", "readline", "resource", "spwd", "syslog"}
UNIX_ONLY |= {"termios", "tty"}

# Refuses every package that is not on the list, as if it were not installed, then imports what it is told to.
ALONE = """
import importlib, json, sys, traceback
allowed, names = json.load(sys.stdin)
allowed = set(allowed) | set(sys.stdlib_module_names)
class Only:
    def __init__(self, finders):
        self.finders = finders
    def find_spec(self, name, path=None, target=None):
        # Python's own build settings have the platform in their name.
        if name.partition(".")[0] in allowed or name.startswith("_sysconfigdata_"):
            specs = (finder.find_spec(name, path, target) for finder in self.finders)
            return next((spec for spec in specs if spec is not None), None)
    def find_distributions(self, *told):
        return [found for finder in self.finders if hasattr(finder, "find_distributions")
                for found in finder.find_distributions(*told)]
sys.meta_path[:] = [Only(list(sys.meta_path))]
faults = []
for name in names:
    try:
        importlib.import_module(name)
    except Exception as error:
        faults.append(f"{name}: {type(error).__name__}: {error}")
print(json.dumps([faults, sorted(sys.modules)]))
"""


def declared(root: Path, extra: str | None = None) -> list[str]:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["dependencies"] + (project["optional-dependencies"][extra] if extra else [])


def project_extra(root: Path, extra: str) -> list[str]:
    """What an extra adds to the dependencies."""
    return declared(root, extra)[len(declared(root)) :]


def closure(requirements: list[str]) -> set[str]:
    """The names of all distributions that `requirements` bring with them on this machine."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        one = waiting.pop()
        extras = {"", *one.extras}
        name = canonicalize_name(one.name)
        if (one.marker is not None and not one.marker.evaluate()) or name in found:
            continue
        found.add(name)
        try:
            inner = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for text in inner:
            more = Requirement(text)
            if more.marker is None or any(more.marker.evaluate({"extra": extra}) for extra in extras):
                more.marker = None
                waiting.append(more)
    return found


def packages(requirements: list[str]) -> set[str]:
    """The top-level names that `requirements` let one import."""
    names = closure(requirements)
    by_package = importlib.metadata.packages_distributions()
    return {name for name, owners in by_package.items() if names & {canonicalize_name(owner) for owner in owners}}


def import_alone(allowed: set[str], names: list[str]) -> tuple[list[str], set[str]]:
    """Import `names` in a new Python that has only `allowed`: the failures, and every module that came in."""
    told = json.dumps([sorted(allowed), names])
    done = subprocess.run([sys.executable, "-c", ALONE], input=told, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    faults, loaded = json.loads(done.stdout.splitlines()[-1])
    return faults, set(loaded)


def modules(root: Path, room: str = "") -> list[str]:
    source = root / "src"
    paths = sorted((source / "cutaway" / room).rglob("*.py"))
    names = [".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return [name for name in names if not name.endswith("__main__")]


def rooms(root: Path) -> list[str]:
    return sorted(path.parent.name for path in (root / "src" / "cutaway").glob("*/__init__.py"))


def test_every_room_imports_with_its_dependencies_alone(root):
    alone = packages(declared(root)) | {"cutaway"}
    assert "torch" in alone and "pytest" not in alone and "transformers" not in alone
    special = {name for room in EXTRAS for name in modules(root, room)}
    plain = [name for room in rooms(root) for name in modules(root, room) if name not in special]
    faults = import_alone(alone, ["cutaway", *plain])[0]
    assert not faults, "\n".join(faults)
    for room, extra in EXTRAS.items():
        markers = [Requirement(text).marker for text in project_extra(root, extra)]
        if not all(marker is None or marker.evaluate() for marker in markers):
            continue  # this system has no such package
        assert import_alone(packages(declared(root, extra)) | {"cutaway"}, modules(root, room))[0] == []


def test_importing_alone_can_fail():
    faults, loaded = import_alone({"cutaway", "rich"}, ["rich", "pytest", "cutaway.base.errors", "cutaway.none"])
    assert faults == [
        "pytest: ModuleNotFoundError: No module named 'pytest'",
        "cutaway.none: ModuleNotFoundError: No module named 'cutaway.none'",
    ]
    assert "cutaway.base.errors" in loaded


def test_text_base_and_plans_leave_torch_out(root):
    plans = [f"cutaway.infer.{name}" for name in ("request", "pages", "block_tables", "scheduler")]
    light = ["cutaway", *modules(root, "base"), *modules(root, "text"), *plans]
    faults, loaded = import_alone(packages(declared(root)) | {"cutaway"}, light)
    assert faults == []
    assert "torch" not in loaded
    assert "torch" in import_alone(packages(declared(root)) | {"cutaway"}, ["torch"])[1]  # the check can fail


HELP = "import sys; from cutaway.cli.main import main; sys.argv = ['cutaway', '--help']\n"
HELP += "try:\n    main()\nfinally:\n    print('torch' in sys.modules, file=sys.stderr)"


def test_help_leaves_torch_out():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, encoding="utf-8")
    assert "usage" in done.stdout.lower()
    assert (done.returncode, done.stderr.split()) == (0, ["False"])


def test_help_takes_under_half_a_second():
    """The one timing among the tests: a slow help is how a heavy import at the top shows itself to a person.

    The best of several runs is taken, since a busy machine can only make a run slower; it stops at the first good one.
    """
    command = Path(sysconfig.get_path("scripts")) / "cutaway"
    best = float("inf")
    for _ in range(12):
        start = time.perf_counter()
        subprocess.run([str(command), "--help"], capture_output=True, check=True)
        best = min(best, time.perf_counter() - start)
        if best < 0.5:
            return
    raise AssertionError(f"cutaway --help took {best:.2f} s at best")


def undeclared(path: Path, allowed: set[str]) -> list[str]:
    """Packages that a file imports, anywhere in it, and that no part of pyproject.toml names."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        tops = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - allowed
        found += [f"{path.name}:{node.lineno} imports {top}, unknown to pyproject.toml" for top in sorted(tops)]
    return found


def test_every_imported_package_is_declared(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    told = project["dependencies"] + [text for texts in project["optional-dependencies"].values() for text in texts]
    named = {canonicalize_name(Requirement(text).name) for text in told}
    owners = importlib.metadata.packages_distributions()
    allowed = {name for name, who in owners.items() if named & {canonicalize_name(one) for one in who}} | {"cutaway"}
    paths = [*(root / "src").rglob("*.py")]
    faults = [fault for path in paths for fault in undeclared(path, allowed)]
    assert not faults, "\n".join(faults)


def test_an_undeclared_package_is_seen(tmp_path):
    path = tmp_path / "file.py"
    path.write_text("import os, yaml.safe\nfrom . import x\ndef f():\n    from requests import get\n", encoding="utf-8")
    assert len(undeclared(path, {"cutaway"})) == 2
    assert undeclared(path, {"yaml", "requests"}) == []


def unix_only(path: Path) -> list[str]:
    """Imports of modules that only Unix has, outside of functions."""
    found, waiting = [], list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        for name in names:
            if name.partition(".")[0] in UNIX_ONLY:
                found.append(f"{path.name}:{node.lineno} imports {name}, which only Unix has")
        waiting += ast.iter_child_nodes(node)
    return found


def test_nothing_of_unix_alone_is_imported_at_top_level(root):
    paths = [root / "make.py", *(root / "src").rglob("*.py"), *(root / "tests").rglob("*.py")]
    faults = [fault for path in paths for fault in unix_only(path)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("import resource", 1),
        ("import os, fcntl", 1),
        ("from termios import tcgetattr", 1),
        ("try:\n    import pwd\nexcept ImportError:\n    pwd = None", 1),
        ("class A:\n    import grp", 1),
        ("def f():\n    import resource", 0),
        ("from .resource import x\nfrom cutaway.base import resource", 0),
    ],
)
def test_a_module_of_unix_alone_is_seen(tmp_path, text, count):
    path = tmp_path / "file.py"
    path.write_text(text, encoding="utf-8")
    assert len(unix_only(path)) == count
