"""Where small real data lie that a card reads: they are not ours to ship, so a machine may or may not have them.

Read next: lab/card.py
"""

from __future__ import annotations

import os
from pathlib import Path

from cutaway.lab.card import NoData
from cutaway.weights.shelf import SHELF

VARIABLE = "CUTAWAY_DATA"
BESIDE = ("data", "shared/data", "../shared/data")  # looked for from the folder that one is in


def found(name: str) -> Path:
    """The file `name` ("tinyshakespeare/input.txt") in the folder of CUTAWAY_DATA, or in one beside. Raises NoData."""
    told = os.environ.get(VARIABLE)
    for folder in [told] if told else BESIDE:
        path = Path(folder).expanduser() / name
        if path.is_file():
            return path
    raise NoData(f"{name} is not here; {VARIABLE} says in which folder it is")


def shelved(name: str) -> Path:
    """What opens the model of that short name, where it was fetched before. Raises NoData: nothing is downloaded."""
    model = SHELF[name]
    path = model.folder / model.opens
    if not path.exists():
        raise NoData(f"{name} is not here; `cutaway get {name}` fetches it")
    return path
