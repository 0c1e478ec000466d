"""The reader's file: found, compiled, run, its function taken out; and its own lines of a traceback.

Read next: lab/swap/judge.py, lab/swap/child.py
"""

from __future__ import annotations

import linecache
import sys
import traceback
import types
from pathlib import Path
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.lab.swap.verdict import Verdict

MODULE = "swapped"
LAST = 6  # lines of a traceback that are shown


def split(given: str) -> tuple[str, Path, str | None]:
    """`ops.attend=./mine.py:attend` as the part's name, the file, and the function's name or None. Whether there is
    such a part and such a file is not asked here."""
    part, equals, rest = given.partition("=")
    if not equals or not part or not rest:
        raise BadInput("write PART=FILE:FUNCTION, as in ops.attend=./mine.py:attend", field=given or "PART")
    path, colon, function = rest.rpartition(":")
    if not colon or not function.isidentifier():  # C:\mine.py has a colon too
        path, function = rest, ""
    return part, Path(path).expanduser(), function or None


def present(file: Path) -> Path:
    """The file, whole. Raises BadInput where there is none, with the nearest name beside it."""
    if file.is_file():
        return file.resolve()
    beside = [one.name for one in file.parent.glob("*.py")] if file.parent.is_dir() else []
    said = "is a folder" if file.is_dir() else "no such file"
    raise BadInput(f"{said}{did_you_mean(file.name, beside)}", source=file)


def take(part: str, path: Path, function: str) -> tuple[Any, Verdict | None]:
    """The object of that name after the file has run; or the verdict that says why there is none.

    What the file itself raises passes through.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        code = compile(text, str(path), "exec")
    except (SyntaxError, ValueError) as error:  # ValueError: not UTF-8, or a NUL byte
        line = getattr(error, "lineno", None)
        where = f"line {line}: " if line else ""
        said = getattr(error, "msg", None) or str(error)
        shown = (getattr(error, "text", None) or "").strip()
        return None, Verdict(
            part=part, outcome="unreadable", message=f"{where}{said}", trace=(f"line {line}: {shown}",) if shown else ()
        )
    module = types.ModuleType(MODULE)
    module.__file__ = str(path)
    sys.modules[MODULE] = module  # dataclasses and pickling look there
    linecache.checkcache(str(path))
    exec(code, module.__dict__)
    found = module.__dict__.get(function)
    if found is None:
        own = [name for name, value in module.__dict__.items() if callable(value) and _is_own(value)]
        hint = did_you_mean(function, own) or (f" (it has {', '.join(own)})" if own else "; it has none at all")
        return None, Verdict(part=part, outcome="missing", message=f"no function {function} in {path.name}{hint}")
    return found, None


def _is_own(value: Any) -> bool:
    return getattr(value, "__module__", None) == MODULE


def own_lines(error: BaseException, source: str) -> list[str]:
    """The lines of the reader's file that a traceback goes through, the innermost last."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename == source]
    return [f"line {one.lineno}, in {one.name}: {one.line}" for one in frames[-LAST:]]
