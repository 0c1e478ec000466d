"""What each way of decoding looks at and takes, step by step: the same prompt, one way beside the other.

A way is written as `cutaway decode --show` has it, NAME or NAME:NUMBER: greedy, sample:0.8 (a temperature), top-k:40,
top-p:0.9, min-p:0.1, typical:0.9, epsilon:0.02, eta:0.02 (cuts, at temperature 1), beam:4, groups:4 (beams, one in each
group), contrastive:4 (candidates). Read next: infer/sampler.py, infer/beams.py, infer/contrastive.py
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.infer.contrastive import contrastive_steps
from cutaway.infer.decoding import Decoding
from cutaway.infer.language import Language
from cutaway.infer.prompted import Prompted
from cutaway.infer.sampler import candidates, choose, trimmed
from cutaway.infer.search import beam_steps
from cutaway.infer.searches import BeamSearch, ContrastiveSearch
from cutaway.models.decoder import DecoderModel

DIVERSITY, ALPHA = 1.0, ContrastiveSearch().alpha  # nats; how much repeating counts against likelihood


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """`ids`: a token, or a whole beginning; `number`: its probability, score or mean logprob; `taken`: it goes on."""

    ids: tuple[int, ...]
    number: float
    taken: bool


Step = tuple[Candidate, ...]

# The field of Decoding that a number is for, where no number is given: the default.
CUTS = MappingProxyType(
    {
        "sample": ("temperature", 1.0),
        "top-k": ("top_k", 40.0),
        "top-p": ("top_p", 0.9),
        "min-p": ("min_p", 0.1),
        "typical": ("typical_p", 0.9),
        "epsilon": ("epsilon", 0.02),
        "eta": ("eta", 0.02),
    }
)
COUNTS = MappingProxyType({"beam": 4.0, "groups": 4.0, "contrastive": 4.0})
NAMES = ("greedy", *CUTS, *COUNTS)


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way of decoding by its name, with its number."""

    name: str
    number: float | None = None

    @classmethod
    def of(cls, text: str) -> Way:
        """Raises BadInput, with the nearest name, for what is no way."""
        name, colon, number = text.strip().partition(":")
        if name not in NAMES:
            raise BadInput(f'no way of decoding is called "{name}"{did_you_mean(name, NAMES)}', field="show")
        if name == "greedy":
            if colon:
                raise BadInput("greedy takes no number", field="show")
            return cls(name=name)
        try:
            given = float(number) if colon else CUTS[name][1] if name in CUTS else COUNTS[name]
        except ValueError:
            raise BadInput(f'"{number}" is not a number: write {name}:NUMBER', field="show") from None
        way = cls(name=name, number=given)
        if name in COUNTS and (given != int(given) or not 1 <= given <= 64):
            raise BadInput(f"{name} takes a whole number from 1 to 64, not {number}", field="show")
        way.decoding(0)  # refuses what its field refuses
        return way

    def decoding(self, seed: int) -> Decoding:
        """How it draws; a search draws nothing."""
        if self.name not in CUTS:
            return Decoding()
        assert self.number is not None
        field = CUTS[self.name][0]
        number = int(self.number) if field == "top_k" and self.number == int(self.number) else self.number
        told: dict[str, Any] = {"temperature": 1.0, "seed": seed} | {field: number}
        return Decoding(**told)

    def steps(self, language: Language, ids: list[int], count: int, seed: int = 0) -> Iterator[Step]:
        """At most `count` steps behind the prompt; ends where the answer does."""
        most = min(count, language.spec.length - len(ids) + 1)
        ends = language.tokenizer.eos_ids if language.tokenizer else frozenset()
        if self.name not in COUNTS:
            return _drawn(language, ids, most, ends, self.decoding(seed))
        assert isinstance(language.module, DecoderModel) and self.number is not None
        texts = Prompted(language.module, language.forms, dtype=language.dtype, device=language.device)
        if self.name == "contrastive":
            return _contrasted(texts, ids, most, ends, int(self.number))
        groups = int(self.number) if self.name == "groups" else 1
        how = BeamSearch(width=int(self.number), groups=groups, diversity=DIVERSITY if groups > 1 else 0.0)
        return _searched(texts, ids, most, ends, how)


def _drawn(language: Language, ids: list[int], most: int, ends: frozenset[int], decoding: Decoding) -> Iterator[Step]:
    """Candidates are what the cuts leave, with their probabilities; greedy looks at all."""
    held, draw, text = language.continuation(), random.Random(decoding.seed), list(ids)
    logits_V = held.feed(held.rewind(ids, room=len(ids) + most))
    for _ in range(most):
        with torch.inference_mode():
            token = choose(logits_V, decoding, draw, text)
            as_is = Decoding(temperature=1.0) if decoding.greedy else decoding
            probabilities_C, ids_C = trimmed(*candidates(logits_V, as_is), as_is)
            order_C = probabilities_C.argsort(descending=True, stable=True)
            pairs = zip(ids_C[order_C].tolist(), probabilities_C[order_C].tolist(), strict=True)
        yield tuple(Candidate(ids=(id,), number=number, taken=id == token) for id, number in pairs)
        if token in ends:
            return
        text.append(token)
        logits_V = held.feed([token])


def _contrasted(texts: Prompted, ids: list[int], most: int, ends: frozenset[int], top_k: int) -> Iterator[Step]:
    """Candidates with their scores, likelihood less repetition."""
    for choice in contrastive_steps(texts, ids, top_k=top_k, alpha=ALPHA, most=most, ends=ends):
        scores = [(1 - ALPHA) * p - ALPHA * r for p, r in zip(choice.likely, choice.repeated, strict=True)]
        made = zip(choice.tokens, scores, strict=True)
        yield tuple(Candidate(ids=(id,), number=s, taken=row == choice.row) for row, (id, s) in enumerate(made))


def _searched(texts: Prompted, ids: list[int], most: int, ends: frozenset[int], how: BeamSearch) -> Iterator[Step]:
    """Candidates are the beginnings that go on and the results so far, by mean logprob; the best is the one taken."""
    groups = how.begin(most, ends)
    for _ in beam_steps(texts, [ids], groups, of=[0] * len(groups)):
        scored = [(beam.score(how.length_penalty), beam.tokens) for group in groups for beam in group.running]
        scored += [(score, beam.tokens) for group in groups for score, beam in group.found]
        scored.sort(key=lambda one: -one[0])
        yield tuple(Candidate(ids=tokens, number=score, taken=not at) for at, (score, tokens) in enumerate(scored))
