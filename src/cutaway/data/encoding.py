"""Texts into shards, several at once, each in a process of its own, with the Rust tokenizer.

Texts are gathered to about `CHUNK` bytes; each such chunk becomes a shard, whoever makes it, so that the result is the
same with any number of workers. A shard that already stands, made from the same text in the same way, is kept: after an
interruption only what is missing is done. Special tokens spelled out in a text stay plain text: documents cannot forge
the end of a document.
Nothing here imports torch, so that a new process is at work in half a second.   Read next: data/shards.py
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import blake2b
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from cutaway.base.cores import cores
from cutaway.base.errors import BadInput, CutawayError
from cutaway.base.paths import atomic
from cutaway.data.shards import FORMAT, META, Coding, engine, is_whole, parts, read_json, write_json
from cutaway.text.tokenizer import Tokenizer

CHUNK = 4 << 20  # bytes of text in a shard: about a million tokens
GROUP = 1 << 18  # characters encoded at once: the library holds some 250 bytes for each token
LONGEST = 1 << 26  # bytes in one document, for the same reason: 64 MiB of prose take some 5 GB

Work = tuple[Path, int, list[str], dict[str, Any]]  # folder, number, texts, what the record is to say


class Encoder:
    """Turns texts into the files of a shard, in whichever process it lives."""

    def __init__(self, engine: str, coding: Coding):
        self._backend, self._coding = tokenizers.Tokenizer.from_str(engine), coding
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True  # "<|endoftext|>" in a text is 13 letters and signs

    def write(self, folder: Path, index: int, texts: Sequence[str], record: Mapping[str, Any]) -> dict[str, Any]:
        """Writes shard `index`; returns its record, with its counts."""
        around = [[] if token is None else [token] for token in (self._coding.begin, self._coding.end)]
        dtype, arrays = np.dtype(self._coding.dtype), []
        for group in _groups(texts):
            for encoded in self._backend.encode_batch_fast(group, add_special_tokens=False):
                arrays.append(np.array([*around[0], *encoded.ids, *around[1]], dtype=dtype))
        lengths = np.array([len(array) for array in arrays], dtype=np.int64)
        tokens = np.concatenate(arrays) if arrays else np.zeros(0, dtype)
        done = {**record, "documents": len(texts), "tokens": len(tokens), "coding": asdict(self._coding)}
        paths = parts(folder, index)
        for path, array in zip(paths[:2], (tokens, lengths), strict=True):
            with atomic(path) as temporary:
                np.save(temporary, array, allow_pickle=False)
        write_json(paths[2], done)
        return done


def _groups(texts: Sequence[str]) -> list[list[str]]:
    groups, size = [[]], 0
    for text in texts:
        if size > GROUP:
            groups.append([])
            size = 0
        groups[-1].append(text)
        size += len(text)
    return groups


_encoder: Encoder | None = None  # one for each worker process: what a pool's initialiser leaves for its tasks


def _begin(engine: str, coding: Coding) -> None:
    global _encoder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a core each, not all cores each
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _encoder = Encoder(engine, coding)


def _end_with_parent() -> None:
    """A parent that is killed outright cannot end its workers, and these would wait for it for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _work(work: Work) -> dict[str, Any]:
    assert _encoder is not None
    return _encoder.write(*work)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Holds Ctrl-C back for a moment. A process that is started meanwhile never sees one, even while it imports."""
    mask = getattr(signal, "pthread_sigmask", None)  # Windows has none
    before = mask(signal.SIG_BLOCK, {signal.SIGINT}) if mask else ()
    try:
        yield
    finally:
        if mask:
            mask(signal.SIG_SETMASK, before)


class Crew:
    """Workers that make shards; used in a `with`. `workers` None: one for each core.

    Processes are started when there is a second shard to make: a small corpus is done right here.
    """

    def __init__(self, tokenizer: Tokenizer, coding: Coding, workers: int | None = None):
        if workers is not None and workers < 1:
            raise BadInput(f"must be at least 1, is {workers}", field="workers")
        self.coding, self.workers = coding, cores() if workers is None else workers
        self._engine = engine(tokenizer)
        self._pool: ProcessPoolExecutor | None = None
        self._alone: Encoder | None = None
        self._first: tuple[Work, Callable[[dict[str, Any]], None]] | None = None
        self._under_way: deque[tuple[Future, Callable[[dict[str, Any]], None]]] = deque()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=kind is not None)

    def give(self, work: Work, done: Callable[[dict[str, Any]], None]) -> None:
        """Has a shard made; `done` gets its record, in the order of giving. Waits where too much is under way."""
        if self.workers == 1:
            done(self._here(work))
        elif self._pool is None and self._first is None:
            self._first = work, done
        else:
            if self._pool is None:
                spawned = multiprocessing.get_context("spawn")  # the same on every system; threads make fork unsafe
                self._pool = ProcessPoolExecutor(
                    self.workers, mp_context=spawned, initializer=_begin, initargs=(self._engine, self.coding)
                )
            started = [self._first, (work, done)] if self._first else [(work, done)]
            self._first = None
            with _uninterrupted(), _workers_alive():
                self._under_way += [(self._pool.submit(_work, one), after) for one, after in started]
            self._take(2 * self.workers)

    def finish(self) -> None:
        """Waits until everything that was given is done."""
        if self._first is not None:
            (work, done), self._first = self._first, None
            done(self._here(work))
        self._take(0)

    def _here(self, work: Work) -> dict[str, Any]:
        if self._alone is None:
            self._alone = Encoder(self._engine, self.coding)
        return self._alone.write(*work)

    def _take(self, leave: int) -> None:
        while len(self._under_way) > leave:
            future, done = self._under_way.popleft()
            with _workers_alive():
                record = future.result()
            done(record)


@contextmanager
def _workers_alive() -> Iterator[None]:
    """A worker that died is found when work is given to it, or when it is waited for."""
    try:
        yield
    except BrokenProcessPool as error:
        message = "a worker process ended (out of memory?); finished shards are kept: try again, fewer workers"
        raise CutawayError(message) from error


class Writer:
    """A set of shards that comes into being: `add` texts, then `finish`. The folder may hold a part of it already.

    `kept`: shards that stood there already. `advance` is called with the bytes of text in each shard that is done.
    """

    def __init__(self, folder: str | Path, crew: Crew, *, chunk: int = CHUNK, advance: Callable = lambda count: None):
        self.folder, self.kept = Path(folder), 0
        self._crew, self._chunk, self._advance = crew, chunk, advance
        self._texts: list[str] = []
        self._size, self._given, self._digest = 0, 0, blake2b(digest_size=16)
        self._records: dict[int, dict[str, Any]] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / META).unlink(missing_ok=True)  # the set is not whole until it is written again

    def add(self, text: str, source: str | None = None) -> None:
        """Takes one document; `source` says where it stood, for errors. Raises BadInput for one that is too long."""
        encoded = text.encode("utf-8", "surrogatepass")
        if len(encoded) > LONGEST:
            message = f"a document of {len(encoded) >> 20} MiB; at most {LONGEST >> 20} MiB are taken as one: split it"
            raise BadInput(message, source=source, field="document")
        self._texts.append(text)
        self._size += len(encoded)
        self._digest.update(len(encoded).to_bytes(8, "little") + encoded)
        if self._size >= self._chunk:
            self._give()

    def finish(self, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Writes the rest and meta.json, with `about` in it; returns what meta.json says."""
        if self._texts or not self._given:
            self._give()
        self._crew.finish()
        records = [self._records[index] for index in range(self._given)]
        self._sweep()
        shards = [{name: record[name] for name in ("documents", "tokens", "bytes", "text")} for record in records]
        sums = {name: sum(shard[name] for shard in shards) for name in ("documents", "tokens", "bytes")}
        coding = self._crew.coding
        meta = {"format": FORMAT, "coding": asdict(coding), "dtype": coding.dtype, **sums, "about": dict(about or {})}
        meta["shards"] = shards
        write_json(self.folder / META, meta)
        return meta

    def _give(self) -> None:
        index, texts, size = self._given, self._texts, self._size
        record = {"text": self._digest.hexdigest(), "bytes": size}
        self._texts, self._size, self._digest = [], 0, blake2b(digest_size=16)
        self._given += 1

        def done(found: dict[str, Any]) -> None:
            self._records[index] = found
            self._advance(size)

        if is_whole(self.folder, index, record, self._crew.coding):
            self.kept += 1
            done(read_json(parts(self.folder, index)[2]))
        else:
            self._crew.give((self.folder, index, texts, record), done)

    def _sweep(self) -> None:
        """Removes the shards of an earlier, longer set, and what a process that was killed left half written."""
        for path in self.folder.glob(".*.partial.*"):
            path.unlink(missing_ok=True)
        index = self._given
        while any(path.exists() for path in parts(self.folder, index)):
            for path in parts(self.folder, index):
                path.unlink(missing_ok=True)
            index += 1
