"""The next batches made in the background while the model works on this one.

A thread takes batches ahead into a short queue, each with the state that follows it, so that `state()` speaks of what
was handed out and not of what was fetched: a run that stops loses no batch and sees none twice.
numpy and torch let go of Python's lock where they copy, so that a thread is enough.   Read next: data/batches.py
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.data.batches import Resumable

WAIT = 0.1  # seconds between two looks at whether the thread is still wanted


class Prefetch:
    """`batches` with up to `depth` of them made ahead; `pin`: in page-locked memory (None: where there is a GPU).

    An exception of `batches` is raised where the batch would have come. One consumer at a time. `close` (or leaving a
    `with`) ends the thread; so does the end of the program.
    """

    def __init__(self, batches: Resumable, *, depth: int = 2, pin: bool | None = None):
        if depth < 1:
            raise BadInput(f"must be at least 1, is {depth}", field="depth")
        if pin is None:
            import torch

            pin = torch.cuda.is_available()
        self._batches, self._depth, self._pin = batches, depth, pin
        self._state = batches.state()
        self._thread: threading.Thread | None = None
        self._queue: queue.Queue[tuple[Batch | None, Any]] = queue.Queue(depth)
        self._leave = threading.Event()

    def __iter__(self) -> Iterator[Batch]:
        if self._thread is None:
            self._start()
        while True:
            batch, after = self._next()
            if batch is None:  # nothing more, or an exception; whoever asks again gets it again
                self._halt()
                self._batches.restore(self._state)
                if after is not None:
                    raise after
                return
            self._state = after
            yield batch

    def state(self) -> dict[str, Any]:
        return self._state

    def restore(self, state: dict[str, Any]) -> None:
        self.close()  # first, so that a state that is refused changes nothing
        self._batches.restore(state)
        self._state = self._batches.state()

    def close(self) -> None:
        """Ends the thread; what it had fetched is given back, so that a later `iter` brings it again."""
        if self._thread is not None:
            self._halt()
            self._batches.restore(self._state)

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        # Each thread has a queue and a flag of its own, so that a slow one that was left behind can do no harm.
        self._queue, self._leave = queue.Queue(self._depth), threading.Event()
        self._thread = threading.Thread(target=self._fetch, args=(self._queue, self._leave), daemon=True)
        self._thread.start()

    def _halt(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._leave.set()
            thread.join()

    def _next(self) -> tuple[Batch | None, Any]:
        while True:
            try:
                return self._queue.get(timeout=WAIT)
            except queue.Empty:
                if self._thread is None:  # closed by another
                    return None, None

    def _fetch(self, line: queue.Queue, leave: threading.Event) -> None:
        try:
            for batch in self._batches:
                if not _put(line, leave, (batch.pinned() if self._pin else batch, self._batches.state())):
                    return
            ending = None
        except BaseException as error:
            ending = error
        _put(line, leave, (None, ending))


def _put(line: queue.Queue, leave: threading.Event, item: Any) -> bool:
    """False if nobody wants it any more."""
    while not leave.is_set():
        try:
            line.put(item, timeout=WAIT)
            return True
        except queue.Full:
            continue
    return False
