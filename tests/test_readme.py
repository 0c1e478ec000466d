"""What README.md and docs/ say is so: marked blocks run, excerpts and links are there, the tree shows the rooms."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^`\n]*)$")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)\s]*)?\)")
SHELLS = {"sh": ["sh", "-e"], "python": [sys.executable]}
MINUTES = 10  # a block that takes longer is no example


@dataclass(frozen=True, kw_only=True)
class Example:
    where: str
    language: str
    text: str


def examples(text: str, name: str) -> list[Example]:
    """The fenced blocks whose info string is a language and the word `run`."""
    found, opened, language, start, lines = [], "", "", 0, []
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if not opened and fence:
            opened, start, lines = fence["fence"], number, []
            words = fence["info"].split()
            language = words[0] if words[1:] == ["run"] else ""
        elif opened and fence and fence["fence"].startswith(opened) and not fence["info"].strip():
            if language:
                assert language in SHELLS, f"{name}:{start}: nothing runs {language}"
                found.append(Example(where=f"{name}:{start}", language=language, text="\n".join(lines) + "\n"))
            opened = ""
        else:
            lines.append(line)
    assert not opened, f"{name}:{start}: the block has no end"
    return found


def pages(root: Path) -> list[Path]:
    return [*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))]


def excerpts(text: str, name: str) -> list[tuple[str, str, str]]:
    """Where, file and text of the fenced blocks whose info string is a language and `from FILE`: lines of that file."""
    found, source, start, lines = [], "", 0, []
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if fence and start:
            if source:
                found.append((f"{name}:{start}", source, "\n".join(lines) + "\n"))
            source, start, lines = "", 0, []
        elif fence:
            words = fence["info"].split()
            source, start, lines = words[2] if words[1:2] == ["from"] and len(words) == 3 else "", number, []
        else:
            lines.append(line)
    return found


def strayed(root: Path, name: str, text: str) -> list[str]:
    """Excerpts that are no longer what stands in their file, line for line."""
    return [
        f"{where}: {source} has no such lines"
        for where, source, lines in excerpts(text, name)
        if f"\n{lines}" not in "\n" + (root / source).read_text(encoding="utf-8")
    ]


def all_examples(root: Path) -> list[Example]:
    return [
        one
        for path in pages(root)
        for one in examples(path.read_text(encoding="utf-8"), path.relative_to(root).as_posix())
    ]


def run(example: Example, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / f"example.{example.language}"
    path.write_text(example.text, encoding="utf-8")
    environment = {**os.environ, "PATH": sysconfig.get_path("scripts") + os.pathsep + os.environ.get("PATH", "")}
    command = [*SHELLS[example.language], str(path)]
    options = {"cwd": folder, "env": environment, "stdin": subprocess.DEVNULL, "timeout": MINUTES * 60}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", **options)


@pytest.mark.proof
@pytest.mark.parametrize("example", all_examples(ROOT), ids=lambda example: example.where)
def test_a_marked_block_runs(example, tmp_path):
    done = run(example, tmp_path)
    assert done.returncode == 0, f"{example.where}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_the_readme_has_a_block_that_proof_runs():
    assert any(example.where.startswith("README.md") for example in all_examples(ROOT))


def dead_links(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return [f"{path.name}: {link}" for link in LINK.findall(text) if not (path.parent / link).exists()]


def test_every_link_to_a_file_leads_somewhere():
    dead = [link for path in pages(ROOT) for link in dead_links(path)]
    assert not dead, "\n".join(dead)


def test_every_excerpt_is_what_stands_in_its_file():
    faults = [
        fault
        for path in pages(ROOT)
        for fault in strayed(ROOT, path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert not faults, "\n".join(faults)


def test_an_excerpt_that_strayed_is_seen(tmp_path):
    (tmp_path / "x.cpp").write_text("int a;\n    int b;\nint c;\n", encoding="utf-8")
    page = "Text.\n```cpp from x.cpp\n    int b;\nint c;\n```\n```sh run\ntrue\n```\n```cpp from x.cpp\nint b;\n```\n"
    assert [where for where, _, _ in excerpts(page, "y.md")] == ["y.md:2", "y.md:9"]
    assert strayed(tmp_path, "y.md", page) == ["y.md:9: x.cpp has no such lines"]


def tree_rooms(text: str) -> set[str]:
    """The rooms of the captioned tree: the indented lines `name/` after `src/cutaway/`."""
    tree = re.search(r"^ *src/cutaway/[^\n]*\n((?:^ +\w+/[^\n]*\n)+)", text, re.MULTILINE)
    return set(re.findall(r"^ +(\w+)/", tree.group(1), re.MULTILINE)) if tree else set()


def test_the_captioned_tree_shows_the_rooms_there_are():
    rooms = {path.parent.name for path in (ROOT / "src" / "cutaway").glob("*/__init__.py")}
    assert tree_rooms((ROOT / "README.md").read_text(encoding="utf-8")) == rooms


PAGE = """
```sh run
cutaway --help
```
~~~python run
print("```")
~~~
```sh
never
```
````text
```sh run
inside a longer fence
```
````
"""


def test_only_marked_blocks_are_examples():
    assert [(one.where, one.language, one.text) for one in examples(PAGE, "x.md")] == [
        ("x.md:2", "sh", "cutaway --help\n"),
        ("x.md:5", "python", 'print("```")\n'),
    ]


@pytest.mark.parametrize("page", ["```fish run\n```\n", "```sh run\necho\n"])
def test_a_block_that_nothing_can_run_is_refused(page):
    with pytest.raises(AssertionError):
        examples(page, "x.md")


@pytest.mark.parametrize(
    ("language", "text", "works"),
    [
        ("sh", "true\n", True),
        ("sh", "false\ntrue\n", False),  # a failure in the middle is one
        ("python", "import cutaway\n", True),
        ("python", "raise SystemExit(3)\n", False),
    ],
)
def test_a_block_that_fails_is_seen(tmp_path, language, text, works):
    done = run(Example(where="x.md:1", language=language, text=text), tmp_path)
    assert (done.returncode == 0) is works


def test_a_dead_link_is_seen(tmp_path):
    page = tmp_path / "x.md"
    page.write_text("[a](x.md) [b](x.md#there) [c](gone.md) [d](https://example.org) [e](#here)", encoding="utf-8")
    assert dead_links(page) == ["x.md: gone.md"]
    assert tree_rooms("src/cutaway/   all\n  base/   a\n  ops/    b\ntests/\n") == {"base", "ops"}
