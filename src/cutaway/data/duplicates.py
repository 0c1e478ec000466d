"""Documents that are there already, letter for letter or nearly; the first of each stays.

Broder 1997: two texts resemble each other as their sets of shingles do, |A and B| / |A or B| (Jaccard); the smallest
hash values of a set under many permutations (MinHash) estimate that, and banding finds the likely pairs without
comparing all (Indyk & Motwani 1998). Lee et al. 2021 (arXiv 2107.06499): what it does for language models.
Shingles are runs of characters, so that Chinese needs no word boundaries.
Departure: the estimate decides, with a standard deviation of about 0.035 at a resemblance of 0.8.
Read next: data/split.py
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any

import numpy as np

from cutaway.base.errors import BadInput, MissingExtra
from cutaway.data.entry import Entry
from cutaway.data.permutation import mixed
from cutaway.data.tally import Tally

SHINGLE = 5  # characters
PERMUTATIONS = 128
SEED = 1
BLOCK = 1 << 14  # shingles hashed at once: 128 numbers for each are held
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
RECALL = (0.1, 0.9)  # banding may propose too much, which the estimate then sorts out, rather than too little


def exact(entries: Iterable[Entry], tally: Tally) -> Iterator[Entry]:
    """The entries whose text has not come before. Holds 16 bytes (in a set: some 100) for each."""
    seen: set[bytes] = set()
    for entry in entries:
        mark = blake2b(entry.text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if mark in seen:
            tally.drop(entry, "the same as an earlier one")
            continue
        seen.add(mark)
        yield entry


def near(entries: Iterable[Entry], tally: Tally, *, threshold: float = 0.8, shingle: int = SHINGLE) -> Iterator[Entry]:
    """The entries that resemble no earlier one by `threshold` or more. Needs the package datasketch.

    Case and the kind and number of blanks make no difference. Holds some 5 kB for each entry that stays.
    """
    if not 0 < threshold <= 1:
        raise BadInput(f"must be above 0 and at most 1, is {threshold}", field="threshold")
    if shingle < 1:
        raise BadInput(f"must be at least 1 character, is {shingle}", field="shingle")
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError as error:
        raise MissingExtra("datasketch", "data") from error
    first = MinHash(num_perm=PERMUTATIONS, seed=SEED)  # drawing its permutations takes longer than using them
    shared: dict[str, Any] = {"permutations": first.permutations, "scheme": first.scheme}
    index: Any = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=RECALL)
    held: dict[int, tuple[Any, str]] = {}
    for number, entry in enumerate(entries):
        sketch = MinHash(num_perm=PERMUTATIONS, seed=SEED, hashfunc=int, **shared)
        hashes = shingles(entry.text, shingle)
        for start in range(0, len(hashes), BLOCK):
            sketch.update_batch(hashes[start : start + BLOCK].tolist())
        # In the order they came, so that it does not depend on the index which one is named.
        likely = ((sketch.jaccard(held[other][0]), held[other][1]) for other in sorted(index.query(sketch)))
        found = next(((likeness, place) for likeness, place in likely if likeness >= threshold), None)
        if found is not None:
            tally.drop(entry, f"at least {threshold:.0%} like an earlier one", f"{found[0]:.0%} like {found[1]}")
            continue
        index.insert(number, sketch, check_duplication=False)
        held[number] = sketch, f"{entry.source}:{entry.place}"
        yield entry


def shingles(text: str, size: int) -> np.ndarray:
    """A 32-bit number for each different run of `size` characters; of a shorter text, for the whole."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    codes = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    runs = np.lib.stride_tricks.sliding_window_view(codes, min(size, len(codes))) if len(codes) else codes[None]
    hashes = np.zeros(len(runs), dtype=np.uint64)
    for place in range(runs.shape[1]):
        hashes = hashes * _FACTOR + runs[:, place]  # modulo 2**64; what is alike in that is stirred apart below
    return np.unique(mixed(SEED, hashes) >> np.uint64(32))
