"""A unigram vocabulary from text: many candidate pieces, fitted by expectation-maximisation, pruned to what counts.

Kudo 2018, "Subword Regularization", section 3.2, arXiv 1804.10959; the details are SentencePiece's. With x a cut of a
text into pieces and p(x) the product of its pieces' probabilities, L = sum over texts of log sum over x of p(x).

    E: c_i = the expected count of piece i        M: log p_i = digamma(c_i) - digamma(sum of c)
    prune: without piece i its c_i occurrences become its second best cut; the pieces whose loss in L is least go

The digamma in place of the logarithm is the mean of log p under a Dirichlet posterior: rare pieces lose most.
Departures from SentencePiece: candidates are chosen by how often they occur, while there every different word (cut at
spaces, punctuation included) counts once, so that "KING", often said and always before a colon, is none; on plays of
Shakespeare that is worth 8% of the log-likelihood. Single characters are never dropped on the way. A stretch without
any border of script is cut after 256 characters, so that one giant line costs no more than its length.
Read next: text/substrings.py, text/lattice.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cutaway.base.errors import BadInput
from cutaway.base.progress import track
from cutaway.text.coverage import covering
from cutaway.text.lattice import Floats, Ints, Lattice
from cutaway.text.substrings import repeated

LONGEST = 16  # characters of a piece
SEEDS = 1_000_000  # candidates that the first round starts from, and not more than
PER_PIECE = 50  # for each wanted piece
KEPT = 0.75  # of the pieces, in one pruning
SPARE = 1.1  # times the wanted size, where pruning ends and the most probable pieces are taken
FEWEST = 0.5  # expected occurrences, below which a piece goes
DEEPEST = 256  # characters of a stretch
CHUNK = 1 << 16  # candidates that are pruned at once: bounds the memory


def learn(
    stretches: Mapping[str, int], *, size: int, coverage: float, seeds: Mapping[str, int] | None = None
) -> list[tuple[str, float]]:
    """At most `size` pieces with their natural log-probabilities, most probable first.

    `stretches` says how often each stretch of text occurs (text/scripts.py cuts them). `coverage` is the share of the
    text's characters that must be pieces; the rarest ones beyond it are left out. `seeds` says how much each stretch
    weighs when candidates are chosen, by default as often as it occurs. Raises BadInput where `size` cannot hold the
    characters.
    """
    alphabet = covering(stretches, coverage)
    if not alphabet:
        raise BadInput("there is no text in it", field="corpus")
    if size < len(alphabet):
        message = f"there is room for {max(0, size)} pieces, and the text has {len(alphabet)} different characters"
        raise BadInput(f"{message}; take a larger vocabulary or a lower coverage than {coverage:g}", field="vocab")
    known = set(alphabet)
    counted: Counter[str] = Counter()
    chosen: Counter[str] = Counter()
    for stretch, times in stretches.items():
        for part in _known_parts(stretch, known):
            counted[part] += times
            chosen[part] += times if seeds is None else seeds.get(stretch, 0)
    weights, seeding = _floats(counted.values()), _floats(chosen.values())
    fit = _Fit(list(counted), weights, seeding, sorted(known), min(SEEDS, PER_PIECE * max(size, 1000)))
    rounds = fit.rounds(size)
    for _ in track(rounds, "fitting pieces", total=fit.rounds_ahead(size)):
        pass
    return fit.chosen(size)


def _known_parts(stretch: str, known: set[str]) -> Iterator[str]:
    """`stretch` without the characters that are no pieces, in parts of at most DEEPEST characters."""
    start = 0
    for index, character in enumerate(stretch):
        if character not in known or index - start == DEEPEST:
            if index > start:
                yield stretch[start:index]
            start = index + (character not in known)
    if start < len(stretch):
        yield stretch[start:]


class _Fit:
    """The state between rounds: the lattice of the texts, and the log-probability of each piece.

    Pieces 0 to C - 1 are the C single characters; `firsts` and `lengths` (p,) are one place of each piece in the text.
    """

    def __init__(self, texts: Sequence[str], weights: Floats, seeds: Floats, alphabet: Sequence[str], most: int):
        flat = "\0".join([*texts, ""])
        codes = np.frombuffer(flat.encode("utf-32-le"), dtype=np.uint32).astype(np.int64)
        letters = np.array([ord(character) for character in alphabet], dtype=np.int64)
        self._flat, self._weights, self._characters = flat, weights, len(alphabet)
        sizes = np.array([len(text) for text in texts], dtype=np.int64)
        finals = np.cumsum(sizes + 1) - 1
        self._finals, begins = finals, finals - sizes
        inside = np.ones(len(codes), dtype=bool)
        inside[finals] = False
        text = np.where(inside, np.searchsorted(letters, codes) + 1, 0)
        runs = repeated(text, np.repeat(seeds, sizes + 1), longest=LONGEST).best(most)
        places = np.flatnonzero(inside)
        owners, starts = runs.occurrences()
        lengths = np.r_[np.ones(len(alphabet), dtype=np.int64), runs.lengths]
        pieces = np.r_[text[places] - 1, owners + len(alphabet)]
        starts = np.r_[places, starts]
        self._lattice = Lattice(
            begins=begins, finals=finals, starts=starts, ends=starts + lengths[pieces], pieces=pieces
        )
        self._lengths = lengths
        self._firsts = np.r_[_first_places(text[places] - 1, places, len(alphabet)), runs.firsts()]
        self._logprobs = _log_share(np.r_[self._counted(text, weights, sizes), runs.weights])

    def _counted(self, text: Ints, weights: Floats, sizes: Ints) -> Floats:
        counts = np.zeros(self._characters + 1)
        np.add.at(counts, text, np.repeat(weights, sizes + 1))
        return counts[1:]

    def rounds_ahead(self, size: int) -> int:
        """About how many rounds there will be."""
        return 1 + max(0, int(np.ceil(np.log(len(self._lengths) / (SPARE * size)) / -np.log(KEPT))))

    def rounds(self, size: int) -> Iterator[int]:
        """Two steps of expectation-maximisation and a pruning, until few enough are left. Yields how many are."""
        enough = int(SPARE * size)
        while True:
            for _ in range(2):
                self._maximise()
            yield len(self._logprobs)
            if len(self._logprobs) <= enough:
                return
            self._prune(max(enough, int(KEPT * len(self._logprobs))))

    def _maximise(self) -> None:
        counts, _ = self._lattice.expected(self._logprobs, self._weights)
        counts[: self._characters] = np.maximum(counts[: self._characters], FEWEST)
        kept = counts >= FEWEST
        self._keep(kept)
        counts = counts[kept]
        self._logprobs = digamma(counts) - digamma(np.array([counts.sum()]))

    def _prune(self, size: int) -> None:
        """Keeps `size` pieces: the characters, and those without which the likelihood would fall most."""
        counts = np.zeros(len(self._logprobs))
        for texts, edges in self._lattice.walk(self._lattice.best(self._logprobs)[1]):
            np.add.at(counts, self._lattice.pieces[edges], self._weights[texts])
        loss = np.full(len(counts), -np.inf)
        candidates = np.flatnonzero(counts[self._characters :] > 0) + self._characters
        for start in range(0, len(candidates), CHUNK):
            chunk = candidates[start : start + CHUNK]
            loss[chunk] = self._losses(chunk, counts)
        loss[: self._characters] = np.inf
        kept = np.zeros(len(counts), dtype=bool)
        kept[np.argsort(-loss, kind="stable")[:size]] = True
        self._keep(kept & (loss > -np.inf))

    def _losses(self, chunk: Ints, counts: Floats) -> Floats:
        """What the log-likelihood loses without each piece of `chunk`; -inf for one that is not its own best cut."""
        others = self._lattice.spans(self._firsts[chunk], self._lengths[chunk])
        scores, arrival = others.best(self._logprobs)
        mine, total = counts[chunk], counts.sum()
        parts, gained = np.zeros(len(chunk)), np.zeros(len(chunk))
        for spans, edges in others.walk(arrival):
            parts[spans] += 1
            gained[spans] += np.log(counts[others.pieces[edges]] + mine[spans])
        after = gained - parts * np.log(total + mine * (parts - 1))
        loss = mine * (np.log(mine) - np.log(total) - after)
        return np.where(self._logprobs[chunk] >= scores[others.finals], loss, -np.inf)

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        if kept.all():
            return
        self._lattice = self._lattice.without(np.where(kept, np.cumsum(kept) - 1, -1))
        self._lengths, self._firsts = self._lengths[kept], self._firsts[kept]
        self._logprobs = self._logprobs[kept]

    def chosen(self, size: int) -> list[tuple[str, float]]:
        """All characters, and the most probable longer pieces up to `size`, most probable first."""
        order = np.argsort(-self._logprobs[self._characters :], kind="stable")[: size - self._characters]
        taken = np.r_[np.arange(self._characters), order + self._characters]
        found = [
            (self._flat[first : first + length], score)
            for first, length, score in zip(
                self._firsts[taken].tolist(),
                self._lengths[taken].tolist(),
                self._logprobs[taken].tolist(),
                strict=True,
            )
        ]
        return sorted(found, key=lambda item: (-item[1], item[0]))


def _floats(values: Iterable[int]) -> Floats:
    return np.array(list(values), dtype=np.float64)


def _first_places(pieces: Ints, places: Ints, size: int) -> Ints:
    firsts = np.zeros(size, dtype=np.int64)
    firsts[pieces[::-1]] = places[::-1]
    return firsts


def _log_share(counts: Floats) -> Floats:
    return np.log(counts) - np.log(counts.sum())


def digamma(x: Floats) -> Floats:
    """d log Gamma(x) / dx for x > 0, within 1e-9: the asymptotic series eight steps further up, and back down."""
    steps = sum(1 / (x + step) for step in range(8))
    y = x + 8
    square = 1 / (y * y)
    return np.log(y) - 0.5 / y - square * (1 / 12 - square * (1 / 120 - square / 252)) - steps
