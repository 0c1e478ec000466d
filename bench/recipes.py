"""What every recipe that a laptop finishes comes to: each trained whole, by its command, one after the other.

    python bench/recipes.py --runs FOLDER [--data FOLDER] [--out FILE] [RECIPE ...]

A run that is in FOLDER already is not trained again; one that was cut off is continued. `--data` is the folder with
zh_classical_modern, pairs of classical and modern Chinese, for `translate`; without it that recipe is left out. Times
are of the whole command, so they say something only where nothing else ran.
Read next: recipes/listing.py
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

NAMES = ("nano", "shakespeare-char", "bert-mini", "t5-tiny", "translate")
PAIRS = Path("zh_classical_modern", "pairs.tsv.gz")
SPECIAL = {"word_share": "words of the corpus", "val_exact": "exact", "val_accuracy": "right"}


def trained(name: str, runs: Path, fields: Sequence[str]) -> dict[str, Any]:
    """The recipe's figures; trains it, or the rest of it, where that is not done."""
    folder = runs / name
    seconds = folder.with_suffix(".seconds")
    if not seconds.exists():
        told = ["--resume", str(folder)] if (folder / "run.json").exists() else [name, *fields, "--run", str(folder)]
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "cutaway", "train", *told], check=True)
        spent = time.perf_counter() - start
        seconds.write_text("" if told[0] == "--resume" else f"{spent:.0f}", encoding="utf-8")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    last = {key: value for line in lines for key, value in line.items()}  # evaluation stands on some lines only
    return {
        "steps": len(lines),
        "tokens": sum(line["tokens"] for line in lines),
        "seconds": seconds.read_text(encoding="utf-8"),
        "val_loss": last.get("val_loss"),
        "special": ", ".join(f"{100 * last[key]:.1f}% {said}" for key, said in SPECIAL.items() if key in last),
    }


def page(figures: dict[str, dict[str, Any]], note: str) -> str:
    import torch

    from cutaway import __version__
    from cutaway.cli.machine import look

    lines = [
        f"# Recipes, {date.today()}",
        "",
        f"`python bench/recipes.py --runs FOLDER --data FOLDER`; {look().processor}, {torch.get_num_threads()} "
        f"threads, {platform.system()}; Python {platform.python_version()}, torch {torch.__version__}, "
        f"cutaway {__version__}.",
        *filter(None, [note]),
        "",
        "| recipe | steps | tokens | validation loss | also | seconds in all |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in figures.items():
        loss = "" if one["val_loss"] is None else f"{one['val_loss']:.3f}"
        cells = (name, f"{one['steps']:,}", f"{one['tokens']:,}", loss, one["special"], one["seconds"])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="RECIPE", help=f"Of {', '.join(NAMES)}; all if none.")
    parser.add_argument("--runs", type=Path, required=True, help="Where the runs stand, or are to stand.")
    parser.add_argument("--data", type=Path, help="The folder of data sets.")
    parser.add_argument("--note", default="", help="A sentence about the machine, such as what else it did.")
    parser.add_argument("--out", type=Path, help="Also write the table here.")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"no such recipe here: {', '.join(sorted(unknown))}")
    figures = {}
    for name in arguments.names or NAMES:
        fields = []
        if name == "translate":
            if arguments.data is None:
                print("translate is left out: --data tells where its pairs are", file=sys.stderr)
                continue
            fields.append(f"corpus={arguments.data.resolve() / PAIRS}")
        figures[name] = trained(name, arguments.runs, fields)
    text = page(figures, arguments.note)
    if arguments.out:
        from cutaway.base.paths import atomic

        with atomic(arguments.out) as path:
            path.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
