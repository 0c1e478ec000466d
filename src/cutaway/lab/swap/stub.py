"""The file for a reader to fill in: our own source without its bodies.

Signature, shapes and equation stay; what calls it is said above it.
Read next: lab/swap/table.py
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from types import ModuleType
from typing import Any

from cutaway.lab.swap.part import Part


def stub(part: Part) -> str:
    """A Python file that can be judged at once, and is told "not written yet"."""
    module = sys.modules[part.ours.__module__]
    name = part.name.rpartition(".")[2]
    wanted = _emptied(textwrap.dedent(inspect.getsource(part.ours)), name)
    imports = _imports(module, ast.parse(wanted))
    said = [f'"""Your own {name}: {part.about}.', "", *_prose(module)]
    said += ["", f"Judge it:     cutaway swap {part.name}=./mine.py:{name} --check"]
    said += [f"Run it:       cutaway swap {part.name}=./mine.py:{name}"] if part.place else []
    lines = [*said, '"""', "", "from __future__ import annotations", "", *imports, "", "", wanted, ""]
    return "\n".join(line.rstrip() for line in lines)


def _prose(module: ModuleType) -> list[str]:
    """Our module's docstring, less what to read next."""
    text = inspect.getdoc(module) or ""
    return [line for line in text.splitlines() if not line.startswith("Read next")]


def _emptied(source: str, name: str) -> str:
    """Our lines under another name, with `raise NotImplementedError` for every body; of a class, what makes and runs
    it."""
    tree, lines = ast.parse(source).body[0], source.splitlines()
    assert isinstance(tree, (ast.FunctionDef, ast.ClassDef))
    lines[tree.lineno - 1] = lines[tree.lineno - 1].replace(tree.name, name, 1)
    kept: list[str] = []
    at = tree.lineno - 1
    for node in [tree] if isinstance(tree, ast.FunctionDef) else tree.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        begins = min([node.lineno, *(one.lineno for one in node.decorator_list)]) - 1
        kept += lines[at : max(begins, at)]
        if node is tree or node.name in ("__init__", "forward"):
            first = node.body[0]
            head = first.end_lineno if ast.get_docstring(node) is not None else first.lineno - 1
            kept += [*lines[node.lineno - 1 : head], " " * first.col_offset + "raise NotImplementedError"]
        at = node.end_lineno or at
    return "\n".join(kept).rstrip()


def _imports(module: ModuleType, tree: ast.AST) -> list[str]:
    """Those of our module's imports that the emptied definition names; and its own types."""
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found: list[str] = []
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            used = [one for one in node.names if (one.asname or one.name) in named]
            if used:
                found.append(ast.unparse(ast.ImportFrom(module=node.module, names=used, level=0)))
        elif isinstance(node, ast.Import):
            found += [ast.unparse(node)] if any((one.asname or one.name) == "torch" for one in node.names) else []
    own = sorted(name for name in named if _defined(module, name))
    found += [f"from {module.__name__} import {', '.join(own)}"] if own else []
    return found if "import torch" in found else ["import torch", *found]


def _defined(module: ModuleType, name: str) -> bool:
    found: Any = module.__dict__.get(name)
    if found is None or name in ("Tensor", "nn"):
        return False
    tree = ast.parse(inspect.getsource(module))
    top = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return name in top or getattr(found, "__module__", None) == module.__name__
