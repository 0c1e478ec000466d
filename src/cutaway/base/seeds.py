"""One seed for every source of randomness in the process.

Read next: base/progress.py
"""

from __future__ import annotations

import random

from cutaway.base.errors import BadInput

LIMIT = 2**32  # numpy takes 32 bits; one limit for all keeps a seed's meaning the same everywhere


def seed_all(seed: int) -> None:
    """Seed Python, numpy and torch (its CPU and every accelerator). Raises BadInput outside 0 <= seed < 2**32."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < LIMIT:
        raise BadInput(f"a seed is a whole number from 0 to {LIMIT - 1}, not {seed!r}", source="seed")

    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)
