"""How often each piece of a corpus occurs, counted by several processes that each cut their share of it.

The corpus is handed out in chunks that end where a piece ends (`Cut.chunks`), so any number of processes, one included,
counts the same. A worker is a fresh Python that runs `serve`: it reads one chunk from its standard input and answers on
its standard output, and ends when its input does; so none outlives us, however we end. It never imports the program
that started it, and needs no `if __name__ == "__main__"` there, on any system.
Read next: text/pair_counts.py
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from cutaway.base.cores import cores
from cutaway.base.errors import BadInput
from cutaway.base.progress import byte_bar
from cutaway.text.corpus import checked_texts
from cutaway.text.patterns import CUTS, Cut

CHUNK = 1 << 19  # characters: a tenth of a second of cutting, against milliseconds of sending
FEW = 4  # fewer chunks are counted here, for starting processes takes as long
_LARGEST = 1 << 40  # bytes of one message; more is a length that nobody meant
_PACKAGE = Path(__file__).resolve().parents[2]
_COMMAND = "from cutaway.text.word_counts import serve; serve()"


def counted(texts: Iterable[str], cut: Cut, processes: int | None = None) -> Counter[bytes]:
    """The pieces of `texts` as UTF-8 with how often each occurs. `processes` None means one for each core.

    Texts are taken as they are needed, and a few chunks of them held at a time. Raises BadInput for what is no text.
    """
    wanted = cores() if processes is None else processes
    if wanted < 1:
        raise BadInput(f"{wanted} processes; at least 1", field="processes")
    totals: Counter[str] = Counter()
    with byte_bar("counting words") as advance:
        chunks = cut.chunks(checked_texts(texts), CHUNK)
        first = [] if wanted == 1 else list(islice(chunks, FEW))
        if len(first) < FEW:
            for chunk in chain(first, chunks):
                _count(chunk, cut, totals)
                advance(sum(map(len, chunk)))
        else:
            with Crew(cut, wanted, totals) as crew:
                for chunk in chain(first, chunks):
                    crew.give(chunk)
                    advance(sum(map(len, chunk)))
                crew.finish()
    return Counter({piece.encode("utf-8"): count for piece, count in totals.items()})


class Crew:
    """Worker processes, each with a thread that feeds it; they start with the first chunk. Use it in a `with` block.

    A worker that cannot start, or dies, is missed by nobody but the clock: its thread counts its chunks itself.
    """

    def __init__(self, cut: Cut, processes: int, totals: Counter[str]):
        self.cut, self.processes, self.totals = cut, processes, totals
        self._chunks: queue.Queue[list[str] | None] = queue.Queue(maxsize=2 * processes)
        self._lock = threading.Lock()
        self._workers: list[subprocess.Popen[bytes]] = []
        self._threads: list[threading.Thread] = []
        self._stopped = False
        self._failure: BaseException | None = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        """Ends every process, at once if there was an error."""
        self._stopped = True
        for worker in self._workers:
            worker.kill()
        try:
            while True:
                self._chunks.get_nowait()
        except queue.Empty:
            pass
        for _ in self._threads:  # one for each, for an interrupted start may still bring its thread to life
            self._chunks.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        for worker in self._workers:
            worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                _close(pipe)

    def give(self, chunk: list[str]) -> None:
        """Hands a chunk to whoever is free first; waits while all have enough to do."""
        if not self._threads:
            self._start()
        self._put(chunk)

    def finish(self) -> None:
        """Waits until everything that was given is counted."""
        for _ in self._threads:
            self._put(None)
        for thread in self._threads:
            while thread.is_alive():
                thread.join(timeout=0.2)  # short: a wait without an end cannot be interrupted on Windows
        self._raise_failure()

    def _put(self, chunk: list[str] | None) -> None:
        while True:
            self._raise_failure()
            try:
                return self._chunks.put(chunk, timeout=0.2)
            except queue.Full:
                continue

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _start(self) -> None:
        for _ in range(self.processes):
            worker = _worker(self.cut)
            if worker is not None:
                self._workers.append(worker)
            thread = threading.Thread(target=self._feed, args=(worker,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _feed(self, worker: subprocess.Popen[bytes] | None) -> None:
        """One thread: chunk after chunk to its worker. What fails here is raised where the next chunk is given."""
        try:
            while (chunk := self._chunks.get()) is not None and not self._stopped:
                counts = _asked(worker, chunk) if worker else None
                if self._stopped:
                    return
                if counts is None:
                    worker = None
                    counts = Counter()
                    _count(chunk, self.cut, counts)
                with self._lock:
                    self.totals.update(counts)
        except BaseException as error:
            self._failure = error


def serve() -> None:
    """The worker: answers chunks on standard input, the name of the cut first, until there are no more."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started us, who then ends us
    source, target = sys.stdin.buffer, sys.stdout.buffer
    cut = CUTS[json.loads(_read(source))]
    while message := _read(source):
        totals: Counter[str] = Counter()
        _count(json.loads(message), cut, totals)
        _write(target, totals)


def _count(chunk: list[str], cut: Cut, totals: Counter[str]) -> None:
    for text in chunk:
        totals.update(cut.pieces(text))


def _worker(cut: Cut) -> subprocess.Popen[bytes] | None:
    path = os.pathsep.join(filter(None, (str(_PACKAGE), os.environ.get("PYTHONPATH"))))
    try:
        worker = subprocess.Popen(
            [sys.executable, "-c", _COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
    except OSError:
        return None
    try:
        assert worker.stdin is not None
        _write(worker.stdin, cut.name)
    except OSError:
        pass  # it has died: the first chunk will show it
    return worker


def _asked(worker: subprocess.Popen[bytes], chunk: list[str]) -> dict[str, int] | None:
    """What the worker counts in `chunk`, or None if it is no more."""
    assert worker.stdin is not None and worker.stdout is not None
    try:
        _write(worker.stdin, chunk)
        answer = _read(worker.stdout)
        return json.loads(answer) if answer else None
    except (OSError, ValueError):
        return None


def _write(pipe: IO[bytes], value: Any) -> None:
    """A value as JSON, after its length in eight bytes."""
    data = json.dumps(value, ensure_ascii=False).encode("utf-8")
    pipe.write(len(data).to_bytes(8, "little") + data)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes:
    """The next value, or nothing at the end of the pipe, be it in the middle of one, or where it says what is none."""
    head = pipe.read(8)
    size = int.from_bytes(head, "little")
    if len(head) < 8 or size >= _LARGEST:
        return b""
    data = pipe.read(size)
    return data if len(data) == size else b""


def _close(pipe: IO[bytes] | None) -> None:
    try:
        if pipe is not None:
            pipe.close()
    except OSError:
        pass  # what was still to be sent to a dead process
