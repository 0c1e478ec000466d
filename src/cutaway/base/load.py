"""Whether other work keeps this machine's cores, so that threads that wait for each other wait long.

Read next: train/cores.py, cli/threads.py
"""

from __future__ import annotations

import os

BUSY = 1.5  # processes that want to run, for each core, over the last minute


def busy() -> bool:
    """True where more processes want to run than there are cores for; False where the system does not tell."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] >= BUSY * (os.cpu_count() or 1)
