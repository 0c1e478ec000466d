"""A file has at most 400 lines, a function 60 lines of code and 8 parameters; names say what a thing is."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

FILE, FUNCTION, PARAMETERS = 400, 60, 8

# Files that may be longer, each with its reason. Only kernels belong here.
KERNEL = "the arguments of a GPU kernel are pointers and sizes, each of its own, and its loop shares all it holds"
LONG: dict[str, str] = {
    f"src/cutaway/ops/triton/{name}.py": KERNEL
    for name in ("flash_forward", "flash_backward", "norm_rotate", "paged", "scores", "blocks")
}

LONG_SIGNATURES = {"generate", "stream", "fit"}  # their options are what a person sets, each by name
KNOBS = ("src/cutaway/cli/", "src/cutaway/recipes/")  # so are those of commands and recipes
EMPTY_WORDS = {"manager", "helper", "helpers", "handler", "util", "utils", "wrapper"}
EMPTY_FILES = EMPTY_WORDS | {"common", "misc", "stuff"}
SPACE = {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT, tokenize.ENDMARKER}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.Module) -> Iterator[tuple[Function, bool]]:
    """Every function, and whether it is a method."""
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield child, isinstance(node, ast.ClassDef)


def code_lines(text: str) -> set[int]:
    """The numbers of all lines that hold code: no blank ones, no comments, no docstrings."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in SPACE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function | ast.ClassDef | ast.Module) and ast.get_docstring(node, clean=False) is not None:
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


def parameters(function: Function, method: bool) -> int:
    given = function.args
    count = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)
    count += (given.vararg is not None) + (given.kwarg is not None)
    static = any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in function.decorator_list)
    return count - (method and not static)


def size_faults(path: Path, name: str) -> list[str]:
    """What is too long in one file. `name` is its path from the project's folder, with forward slashes."""
    text, faults = path.read_text(encoding="utf-8"), []
    if text.count("\n") > FILE and name not in LONG:
        faults.append(f"{name} has {text.count(chr(10))} lines; the ceiling is {FILE}")
    if name.startswith("tests/"):
        return faults
    code = code_lines(text)
    for function, method in functions(ast.parse(text)):
        free = name.startswith(KNOBS) or function.name in LONG_SIGNATURES
        lines = len(code & set(range(function.lineno, (function.end_lineno or 0) + 1)))
        if lines > FUNCTION and not free and name not in LONG:
            faults.append(
                f"{name}:{function.lineno} {function.name} has {lines} lines of code; the ceiling is {FUNCTION}"
            )
        if parameters(function, method) > PARAMETERS and not free and name not in LONG:
            faults.append(f"{name}:{function.lineno} {function.name} has {parameters(function, method)} parameters")
    return faults


def name_faults(path: Path, name: str) -> list[str]:
    """Names in one file that say nothing, its own included."""
    faults, parts = [], [part.removesuffix(".py") for part in name.split("/")]
    if EMPTY_FILES & {word for part in parts for word in words(part)} or re.search(r"_?part_?\d+\.py$", name):
        faults.append(f"{name}: a file is one noun")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Function | ast.ClassDef) and EMPTY_WORDS & set(words(node.name)):
            faults.append(f"{name}:{node.lineno} {node.name} says nothing")
    return faults


def words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def sources(root: Path) -> list[tuple[Path, str]]:
    folders = ("src", "bench", "tests")
    paths = [path for folder in folders for path in sorted((root / folder).rglob("*.py"))] + [root / "make.py"]
    return [(path, path.relative_to(root).as_posix()) for path in paths]


def test_nothing_is_too_long(root):
    faults = [fault for path, name in sources(root) for fault in size_faults(path, name)]
    assert not faults, "\n".join(faults)


def test_every_name_says_what_the_thing_is(root):
    faults = [fault for path, name in sources(root) for fault in name_faults(path, name)]
    assert not faults, "\n".join(faults)


def test_every_exception_stands_for_a_file_with_a_reason(root):
    faults = [name for name, reason in LONG.items() if not (root / name).exists() or len(reason) < 20]
    assert not faults, "\n".join(faults)


def faults(folder: Path, text: str, name: str = "src/cutaway/ops/rope.py") -> list[str]:
    path = folder / "file.py"
    path.write_text(text, encoding="utf-8")
    return size_faults(path, name) + name_faults(path, name)


@pytest.mark.parametrize("name", ["src/cutaway/ops/rope.py", "tests/ops/test_rope.py"])
def test_a_long_file_is_seen(tmp_path, name):
    assert faults(tmp_path, "x = 1\n" * 400, name) == []
    assert len(faults(tmp_path, "x = 1\n" * 401, name)) == 1


def test_a_long_function_is_seen_and_only_code_counts(tmp_path):
    body = '    """One.\n\n    Two.\n    """\n' + "    # why\n\n    x = 1\n" * 59
    assert faults(tmp_path, "def f():\n" + body) == []
    assert len(faults(tmp_path, "def f():\n" + body + "    x = 2\n")) == 1
    assert len(faults(tmp_path, "class A:\n    async def f():\n" + "        x = 1\n" * 60)) == 1
    assert len(faults(tmp_path, "def f():\n    return [\n" + "        1,\n" * 60 + "    ]\n")) == 1
    assert len(faults(tmp_path, "def f():\n    x = '''\n" + "text\n" * 60 + "'''\n")) == 1  # no docstring


def test_many_parameters_are_seen(tmp_path):
    assert faults(tmp_path, "def f(a, b, c, d, /, e, f, *, g, h): ...") == []
    assert faults(tmp_path, "class A:\n    def f(self, a, b, c, d, e, f, *, g, h): ...") == []
    assert len(faults(tmp_path, "def f(a, b, c, d, e, f, g, *more, h): ...")) == 1
    assert len(faults(tmp_path, "class A:\n    @staticmethod\n    def f(a, b, c, d, e, f, g, h, **i): ...")) == 1
    nine = "(a, b, c, d, e, f, g, h, i): ..."
    assert faults(tmp_path, "def generate" + nine) == faults(tmp_path, "def stream" + nine) == []
    assert faults(tmp_path, "def chat" + nine, "src/cutaway/cli/chat.py") == []
    assert faults(tmp_path, "def nano" + nine, "src/cutaway/recipes/nano.py") == []


@pytest.mark.parametrize("name", ["utils", "common", "model_helper", "helpers", "kernel_part2", "kernel_part_2"])
def test_an_empty_file_name_is_seen(tmp_path, name):
    assert len(faults(tmp_path, "", f"src/cutaway/ops/{name}.py")) == 1


@pytest.mark.parametrize("line", ["class CacheManager: ...", "def load_helper(): ...", "class IOHandler: ..."])
def test_an_empty_name_inside_is_seen(tmp_path, line):
    assert len(faults(tmp_path, line)) == 1
    assert faults(tmp_path, "class Utility: ...\ndef wrap(): ...\ndef handle(): ...") == []
