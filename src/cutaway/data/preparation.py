"""From raw documents to a prepared corpus: read, clean, drop what is there already, split, tokenise, write.

One pass: documents go through one at a time, and only their marks are remembered. Stopped in the middle, it goes on
where it was: the cheap steps are made again, finished shards are kept.   Read next: data/encoding.py, data/corpus.py
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.base.paths import expand
from cutaway.base.progress import byte_bar
from cutaway.data import duplicates
from cutaway.data.cleaning import Cleaning, cleaned
from cutaway.data.corpus import RECORD, TOKENIZER, TRAIN, VALIDATION, is_corpus
from cutaway.data.encoding import Crew, Writer
from cutaway.data.entry import Entry
from cutaway.data.readers import sources
from cutaway.data.shards import Coding, fingerprint, read_json, write_json
from cutaway.data.split import cut, held_out
from cutaway.data.tally import Tally
from cutaway.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How a corpus is prepared. `field`: of JSON lines and columns. `separator`: between documents of plain text.

    `cleaning`, `near` (the resemblance from which a document counts as a copy): None leaves that step out. `exact`:
    whether equal documents are dropped. `validation`: the share kept apart, 0 for none, by the hash of each document;
    `tail`: instead, of each document, the end. Behind each document stands the end of a text, if the tokenizer has one.
    """

    field: str = "text"
    separator: str | None = None
    cleaning: Cleaning | None = Cleaning()  # noqa: RUF009 (it is frozen)
    exact: bool = True
    near: float | None = None
    validation: float = 0.05
    tail: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.validation < 1:
            raise BadInput(f"must be from 0 to below 1, is {self.validation}", field="validation")
        if self.near is not None and not 0 < self.near <= 1:
            raise BadInput(f"must be above 0 and at most 1, is {self.near}", field="near")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was done. `parts`: what meta.json says of each. `kept`: shards that stood there already."""

    folder: Path
    tally: Tally
    parts: dict[str, dict[str, Any]]
    shards: int
    kept: int
    workers: int
    seconds: float

    @property
    def tokens(self) -> int:
        return sum(part["tokens"] for part in self.parts.values())

    @property
    def bytes(self) -> int:
        """Of text, in UTF-8."""
        return sum(part["bytes"] for part in self.parts.values())


def prepare(
    given: Sequence[str | Path],
    tokenizer: Tokenizer,
    folder: str | Path,
    preparation: Preparation,
    *,
    workers: int | None = None,
    replace: bool = False,
) -> Report:
    """Makes the corpus in `folder`, or what is missing of it. `replace`: also where another corpus stands there.

    Raises what the readers raise, and BadInput where nothing is left, for training or for validation, and for a folder
    that holds something else. The result does not depend on `workers` (None: one for each core).
    """
    started, folder, tally = time.perf_counter(), expand(folder), Tally()
    record = _record(given, tokenizer, preparation)
    coding = Coding.of(tokenizer, end=tokenizer.eos_id)
    with ExitStack() as stack:
        _claim(folder, record, replace)
        stack.enter_context(_alone(folder))
        advance = stack.enter_context(byte_bar("tokenising", _size(given)))
        write_json(folder / RECORD, {**record, "finished": False})
        tokenizer.save(folder / TOKENIZER)
        crew = stack.enter_context(Crew(tokenizer, coding, workers))
        names: tuple[str, ...] = (TRAIN, VALIDATION) if preparation.validation else (TRAIN,)
        writers = {name: Writer(folder / name, crew, advance=advance) for name in names}
        counts: dict[str, int] = dict.fromkeys(names, 0)
        for entry in _kept(given, preparation, tally):
            for name, text in _placed(entry.text, preparation):
                writers[name].add(text, f"{entry.source}:{entry.place}")
                counts[name] += 1
        _check(counts, tally, preparation, ", ".join(map(str, given)))
        parts = {name: writer.finish() for name, writer in writers.items()}
        if VALIDATION not in parts:
            shutil.rmtree(folder / VALIDATION, ignore_errors=True)
        write_json(folder / RECORD, {**record, "finished": True, "tally": asdict(tally)})
    return Report(
        folder=folder,
        tally=tally,
        parts=parts,
        shards=sum(len(part["shards"]) for part in parts.values()),
        kept=sum(writer.kept for writer in writers.values()),
        workers=crew.workers,
        seconds=time.perf_counter() - started,
    )


def _kept(given: Sequence[str | Path], preparation: Preparation, tally: Tally) -> Iterator[Entry]:
    entries = _counted(sources.read(given, field=preparation.field, separator=preparation.separator), tally)
    if preparation.cleaning is not None:
        entries = cleaned(entries, preparation.cleaning, tally)
    if preparation.exact:
        entries = duplicates.exact(entries, tally)
    if preparation.near is not None:
        entries = duplicates.near(entries, tally, threshold=preparation.near)
    return entries


def _counted(entries: Iterator[Entry], tally: Tally) -> Iterator[Entry]:
    for entry in entries:
        tally.read += 1
        yield entry


def _placed(text: str, preparation: Preparation) -> Iterator[tuple[str, str]]:
    """The text with the part that it belongs to; with `tail`, its two pieces."""
    if not preparation.validation:
        yield TRAIN, text
    elif preparation.tail:
        pieces = zip((TRAIN, VALIDATION), cut(text, preparation.validation), strict=True)
        yield from ((name, piece) for name, piece in pieces if piece)
    else:
        yield VALIDATION if held_out(text, preparation.validation) else TRAIN, text


def _check(counts: dict[str, int], tally: Tally, preparation: Preparation, source: str) -> None:
    if not tally.kept:
        raise BadInput(f"no document is left: {'; '.join(tally.lines())}", source=source)
    missing = [name for name, count in counts.items() if not count]
    if missing:
        message = (
            f"{tally.kept} documents are too few to keep {preparation.validation:.0%} for validation: by their hashes "
            f"{missing[0]} gets none; split them into smaller ones, or keep the end of each apart (tail)"
        )
        raise BadInput(message, source=source)


def _record(given: Sequence[str | Path], tokenizer: Tokenizer, preparation: Preparation) -> dict[str, Any]:
    return {
        "sources": [str(source) for source in given],
        "tokenizer": fingerprint(tokenizer),
        "preparation": asdict(preparation),
    }


def _claim(folder: Path, record: dict[str, Any], replace: bool) -> None:
    """Makes sure that `folder` is ours to write: new, empty, or a corpus prepared in the same way."""
    if folder.exists() and not folder.is_dir():
        raise BadInput("is a file; a folder is needed", source=folder)
    if is_corpus(folder):
        found = read_json(folder / RECORD)
        other = _difference(found, record)
        if other and found.get("finished") and not replace:
            message = f"holds a corpus made otherwise: {other}; choose another folder, or replace it"
            raise BadInput(message, source=folder)
    elif folder.exists() and any(folder.iterdir()):
        raise BadInput("is not empty, and holds no prepared corpus", source=folder)
    folder.mkdir(parents=True, exist_ok=True)


def _difference(found: dict[str, Any], record: dict[str, Any], where: str = "") -> str:
    """The first thing in `record` that is otherwise in `found`, in words."""
    for name, value in record.items():
        held = found.get(name)
        if held != value and isinstance(held, dict) and isinstance(value, dict):
            return _difference(held, value, f"{where}{name}.")
        if held != value:
            return f"{where}{name} was {held}, is {value}"
    return ""


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    place = folder.resolve()  # "." has no name
    lock = FileLock(place.with_name(f".{place.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BadInput("another process is preparing this corpus", source=folder) from error
    try:
        yield
    finally:
        lock.release()


def _size(given: Sequence[str | Path]) -> int | None:
    """Bytes of text to come, where that can be known: all of it plain."""
    total = 0
    for source in given:
        if str(source).startswith(sources.hub.PREFIX):
            return None
        paths = sources.files(source)
        if any(path.suffix == ".gz" or sources.ending(path) not in ("", *sources.TEXTS) for path in paths):
            return None
        total += sum(path.stat().st_size for path in paths)
    return total
