"""Training byte-level BPE on 10 MB to 8,192 tokens: Cutaway beside the Rust trainer of the `tokenizers` library.

    python bench/bpe.py [--corpus PATH] [--rounds 5] [--cores 2] [--vocab 8192] [--out FILE.md]

PATH is a text file, or a folder with the small real data sets of which the corpus is then made (--keep writes it).
Every round runs every side once, so that all meet the same neighbours on the machine; times are medians of rounds,
ratios medians of each round's ratio against the faster way of calling the library. All sides get the same lines and
must learn the same merges, or there are no figures.
"""

from __future__ import annotations

import argparse
import bz2
import gc
import gzip
import importlib.metadata
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BYTES = 10_000_000
# What the corpus is made of, in this order, and how many bytes of each at most.
SETS = (
    ("gutenberg_en/war_and_peace.txt", 3_300_000),
    ("gutenberg_en/moby_dick.txt", 1_300_000),
    ("enwiki_head/enwiki_pages_articles_head.xml.bz2", 2_500_000),
    ("tinystories_sample/tiny_stories.txt", 1_000_000),
    ("zh_novels/hongloumeng.txt.gz", 1_500_000),
    ("gutenberg_en/crime_and_punishment.txt", 1_200_000),
)
OPENERS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".bz2": bz2.decompress}
Merges = list[tuple[str, str]]
Figures = dict[str, list[float]]  # by side, one for each round


def corpus(path: Path) -> str:
    """The text of a file, or `BYTES` of the sets in a folder; without them the program ends, saying what is missing."""
    if path.is_file():
        return path.read_bytes().decode("utf-8")
    missing = [name for name, _ in SETS if not (path / name).is_file()]
    if missing:
        sys.exit(f"{path}: lacks {', '.join(missing)}; name a UTF-8 text of about 10 MB with --corpus FILE")
    parts = []
    for name, most in SETS:
        data = OPENERS.get(Path(name).suffix, bytes)((path / name).read_bytes())
        parts.append(data[:most].decode("utf-8", "ignore"))
    return "\n".join(parts).encode("utf-8")[:BYTES].decode("utf-8", "ignore")


def sides(lines: list[str], path: Path, vocab: int, cores: int) -> dict[str, Callable[[], Merges]]:
    """What is compared: each trains once and gives its merges, as they are spelled in a tokenizer.json."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    from cutaway.text.bpe import BytePair
    from cutaway.text.bpe_file import spelling

    def ours(processes: int) -> Merges:
        made = BytePair.train(lines, vocab=vocab, processes=processes)
        return [(spelling(made.tokens[left]), spelling(made.tokens[right])) for left, right, _ in made.merges]

    def theirs(from_file: bool) -> Merges:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        letters = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=letters, show_progress=False)
        if from_file:
            backend.train([str(path)], trainer)
        else:
            backend.train_from_iterator(lines, trainer, length=len(lines))
        return [(left, right) for left, right in json.loads(backend.to_str())["model"]["merges"]]

    return {
        "cutaway": lambda: ours(cores),
        "cutaway, one process": lambda: ours(1),
        "tokenizers, from a file": lambda: theirs(True),
        "tokenizers, from an iterator": lambda: theirs(False),
    }


def measure(compared: dict[str, Callable[[], Merges]], rounds: int) -> tuple[Figures, Figures, int]:
    """Seconds of each side in each round, by the clock and of processor time, and how many merges all learned."""
    seconds: Figures = {name: [] for name in compared}
    busy: Figures = {name: [] for name in compared}
    merges: Merges | None = None
    for index in range(rounds):
        for name, train in compared.items():
            gc.collect()
            start, work = time.perf_counter(), sum(os.times()[:4])  # with that of children that have ended
            made = train()
            seconds[name].append(time.perf_counter() - start)
            busy[name].append(sum(os.times()[:4]) - work)
            merges = made if merges is None else merges
            if made != merges:
                sys.exit(f"{name} learned other merges; there is nothing to compare")
        print(f"round {index + 1} of {rounds}: " + _listed(seconds), file=sys.stderr)
    return seconds, busy, len(merges or [])


def _listed(seconds: Figures) -> str:
    return ", ".join(f"{name} {times[-1]:.1f} s" for name, times in seconds.items())


def ratio(seconds: Figures, name: str) -> float:
    """The median over the rounds of `name` against the faster way of calling the library in that round."""
    peers = [times for peer, times in seconds.items() if peer.startswith("tokenizers")]
    return statistics.median(mine / min(others) for mine, *others in zip(seconds[name], *peers, strict=True))


def report(seconds: Figures, busy: Figures, facts: dict[str, int], arguments: argparse.Namespace) -> str:
    """The table and what it says, as Markdown."""
    from cutaway.cli.machine import look

    packages = ("tokenizers", "regex", "numpy", "cutaway")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    rounds, cores = arguments.rounds, arguments.cores
    lines = [
        f"# Training byte-level BPE, {date.today()}",
        "",
        f"`python bench/bpe.py --rounds {rounds} --cores {cores} --vocab {arguments.vocab}`; "
        f"{look().processor}, {cores} threads, {platform.system()}; Python {platform.python_version()}, {versions}.",
        f"{facts['bytes']:,} bytes in {facts['lines']:,} lines of English and Chinese, GPT-2's cut, "
        f"{facts['merges']:,} merges, the same on all sides; seconds from the lines in memory (or the file) to the "
        f"vocabulary, median (lowest to highest) of {rounds} rounds, each of which ran every side once.",
        "",
        "| side | seconds | MB/s | processor seconds |",
        "|---|---|---|---|",
    ]
    for name, times in seconds.items():
        middle = statistics.median(times)
        spread = f"{middle:.1f} ({min(times):.1f} to {max(times):.1f})"
        lines.append(
            f"| {name} | {spread} | {facts['bytes'] / 1e6 / middle:.2f} | {statistics.median(busy[name]):.1f} |"
        )
    lines += ["", "Time against the library's faster way in the same round (below 1 is faster than it):", ""]
    lines += [f"- {name}: {ratio(seconds, name):.2f}x" for name in seconds if name.startswith("cutaway")]
    return "\n".join(lines) + "\n"


def _shared() -> Path:
    return Path(os.environ.get("CUTAWAY_TEST_DATA") or ROOT.parent / "shared" / "data")


def _keep_to(cores: int) -> None:
    """Keeps this process, its threads and its children on `cores` cores, where the system lets it."""
    os.environ["RAYON_NUM_THREADS"] = str(cores)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    pin = getattr(os, "sched_setaffinity", None)
    if pin is not None:
        pin(0, sorted(os.sched_getaffinity(0))[:cores])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=_shared(), help="a UTF-8 text, or the folder of data sets")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--keep", type=Path, help="write the corpus here")
    parser.add_argument("--out", type=Path, help="write the table here (Markdown), raw numbers beside it (JSON)")
    arguments = parser.parse_args()
    text = corpus(arguments.corpus)
    if arguments.keep:
        arguments.keep.write_bytes(text.encode("utf-8"))
    _keep_to(arguments.cores)
    lines = list(io.StringIO(text, newline="\n"))  # splitlines() would break at more than line ends
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.txt"
        path.write_bytes(text.encode("utf-8"))
        seconds, busy, merges = measure(sides(lines, path, arguments.vocab, arguments.cores), arguments.rounds)
    facts = {"bytes": len(text.encode("utf-8")), "lines": len(lines), "merges": merges}
    written = report(seconds, busy, facts, arguments)
    print(written)
    if arguments.out:
        arguments.out.write_text(written, encoding="utf-8")
        raw = json.dumps({"seconds": seconds, "processor_seconds": busy, **facts}, indent=1)
        arguments.out.with_suffix(".json").write_text(raw + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
