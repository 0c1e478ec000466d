"""Where every source of randomness in the process stands, as plain values, so that a resumed run draws the same.

Read next: train/checkpoints.py, base/seeds.py
"""

from __future__ import annotations

import random
from typing import Any

import numpy
import torch


def snapshot() -> dict[str, Any]:
    """The states of Python's, numpy's and torch's global generators (and of each GPU's)."""
    version, words, spare = random.getstate()
    kind, keys, place, has_spare, cached = numpy.random.get_state(legacy=True)
    found: dict[str, Any] = {
        "python": {"version": version, "words": list(words), "spare": spare},
        "numpy": {
            "kind": str(kind),
            "keys": torch.from_numpy(numpy.asarray(keys).astype(numpy.int64)),
            "place": int(place),
            "has_spare": int(has_spare),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        found["cuda"] = list(torch.cuda.get_rng_state_all())
    return found


def restore(found: dict[str, Any]) -> None:
    """Puts all generators where `snapshot` found them; those of GPUs only where there are as many as then."""
    python, kept = found["python"], found["numpy"]
    random.setstate((python["version"], tuple(python["words"]), python["spare"]))
    keys = kept["keys"].numpy().astype(numpy.uint32)
    numpy.random.set_state((kept["kind"], keys, kept["place"], kept["has_spare"], kept["cached"]))
    torch.set_rng_state(found["torch"])
    if "cuda" in found and torch.cuda.device_count() == len(found["cuda"]):
        torch.cuda.set_rng_state_all(found["cuda"])
