"""What a command of ours prints, kept with the command, versions and hardware.

    python bench/record.py --title TITLE --out FILE [--note TEXT] COMMAND [COMMAND ...]

Each COMMAND is one string without the leading "cutaway", such as "plan 7.5B --gpus 64". For tables of counts and
losses, which a busy machine does not change; what is timed has a script of its own beside this one.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from datetime import date
from pathlib import Path

PACKAGES = ("torch", "tokenizers", "cutaway")
COLUMNS = "120"  # as wide as a page shows


def printed(command: str) -> str:
    """Standard output of `cutaway COMMAND`. Ends the program where the command fails."""
    environment = {**os.environ, "PYTHONUTF8": "1", "COLUMNS": COLUMNS}
    run = subprocess.run(
        [sys.executable, "-m", "cutaway", *shlex.split(command)],
        stdout=subprocess.PIPE,
        env=environment,
        encoding="utf-8",
    )
    if run.returncode:
        raise SystemExit(f"cutaway {command}: exit code {run.returncode}; nothing is written")
    return run.stdout.rstrip()


def page(title: str, note: str, outputs: dict[str, str]) -> str:
    from cutaway.cli.machine import look

    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    lines = [
        f"# {title}, {date.today()}",
        "",
        f"{look().processor}, {os.cpu_count()} cores, {platform.system()}; "
        f"Python {platform.python_version()}, {versions}.",
    ]
    if note:
        lines.append(note)
    for command, text in outputs.items():
        lines += ["", f"`cutaway {command}`", "", "```text", text, "```"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="+", metavar="COMMAND")
    parser.add_argument("--title", required=True)
    parser.add_argument("--note", default="", help="A sentence about what the tables show.")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    outputs = {command: printed(command) for command in arguments.commands}
    from cutaway.base.paths import atomic

    with atomic(arguments.out) as path:
        path.write_text(page(arguments.title, arguments.note, outputs), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
