"""Work in a thread that ends with it, so that it leaves nothing behind in the thread that asked for it.

OpenMP (torch's, on Linux GNU's libgomp) keeps a pool of workers for every thread that ever ran something in parallel.
Where all pools together have more workers than the machine has cores, it lets none of them spin while they wait: on two
cores an engine in a thread of its own wrote 30 tokens/s while the thread that had opened the model kept its idle pool,
and 54 to 62 once that thread had ended. So a model that another thread will run is opened apart.
Read next: cli/serve.py, base/load.py
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Made = TypeVar("Made")


def apart(work: Callable[[], Made]) -> Made:
    """What `work` gives; what it raises is raised here. Who is interrupted meanwhile (Ctrl-C) does not wait for it."""
    made: list[Made] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            made.append(work())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="apart", daemon=True)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return made[0]
