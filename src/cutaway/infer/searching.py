"""Runs a search behind one prompt and makes answers of what it finds.

V vocabulary.   Read next: infer/searches.py, infer/search.py, infer/contrastive.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.infer.answer import Answer, StopText
from cutaway.infer.beams import Beam
from cutaway.infer.continuation import Continuation
from cutaway.infer.contrastive import contrastive
from cutaway.infer.decoding import Decoding
from cutaway.infer.prompted import Prompted
from cutaway.infer.rules import ruled
from cutaway.infer.sampler import penalise
from cutaway.infer.search import Rule, beam_search
from cutaway.infer.searches import BeamSearch, BestOf, ContrastiveSearch, Search

if TYPE_CHECKING:
    from cutaway.text.tokenizer import Tokenizer

RULES = ("max_tokens", "min_tokens", "repetition_penalty", "presence_penalty", "frequency_penalty")
RULES += ("no_repeat_ngram", "banned", "forced", "end_forced", "logit_bias", "stop")  # the rest is about drawing


class Speaker(Protocol):
    """What a search needs of a `Language`."""

    tokenizer: Tokenizer | None

    @property
    def spec(self) -> Any: ...
    def continuation(self) -> Continuation: ...
    def generate(self, prompt: list[int], *, held: Continuation | None = None, **options: Any) -> Answer: ...


def searched(language: Speaker, texts: Prompted, ids: list[int], how: Search, decoding: Decoding) -> list[Answer]:
    """The answers that the search finds, best first. Raises BadInput for an option that the search has no use for."""
    if isinstance(how, BestOf):
        return _best_of(language, ids, how, decoding)
    plain = vars(Decoding())
    unused = [name for name, value in vars(decoding).items() if value != plain[name] and name not in RULES]
    if unused:
        raise BadInput(f"{type(how).__name__} draws nothing: it has no use for this", field=unused[0])
    most = min(decoding.max_tokens, language.spec.length - len(ids) + 1)
    ends = language.tokenizer.eos_ids if language.tokenizer else frozenset()

    def rule(logprobs_V: Tensor, written: Sequence[int]) -> Tensor:
        text = [*ids, *written]
        logprobs_V = ruled(logprobs_V, decoding, text, len(ids), ends)
        return penalise(logprobs_V, text, decoding.repetition_penalty)

    told = rule if decoding.ruled or decoding.repetition_penalty != 1.0 else None
    if isinstance(how, ContrastiveSearch):
        found = [contrastive(texts, ids, top_k=how.top_k, alpha=how.alpha, most=most, ends=ends, rule=told)]
    else:
        found = _beams(texts, ids, how, most, ends, told)
    return [_answer(language, beam, ends, decoding.stop) for beam in found]


def _beams(
    texts: Prompted, ids: list[int], how: BeamSearch, most: int, ends: frozenset[int], rule: Rule | None
) -> list[Beam]:
    groups = how.begin(most, ends)
    beam_search(texts, [ids], groups, of=[0] * len(groups), rule=rule)
    found = [pair for group in groups for pair in group.found]
    return [beam for _, beam in sorted(found, key=lambda pair: -pair[0])] or [groups[0].best]


def _best_of(language: Speaker, ids: list[int], how: BestOf, decoding: Decoding) -> list[Answer]:
    if decoding.greedy and how.count > 1:
        raise BadInput("drawn at temperature 0, all answers would be one", field="temperature")
    held = language.continuation()  # the prompt is read once
    answers = []
    for number in range(how.count):
        seed = None if decoding.seed is None else decoding.seed + number
        answers.append(language.generate(ids, held=held, **vars(replace(decoding, seed=seed))))
    return sorted(answers, key=lambda one: -sum(one.logprobs) / max(len(one.logprobs), 1))


def _answer(language: Speaker, beam: Beam, ends: frozenset[int], stop: tuple[str, ...]) -> Answer:
    """A stop text cuts the answer's text; its tokens stay what they were."""
    ended = bool(beam.tokens) and beam.tokens[-1] in ends
    text = ""
    if language.tokenizer:
        stops = StopText(stop)
        text = stops.push(language.tokenizer.decode(beam.tokens[: len(beam.tokens) - ended]))
        ended, text = ended or stops.hit, text + stops.flush()
    return Answer(text=text, tokens=beam.tokens, logprobs=beam.logprobs, finish_reason="stop" if ended else "length")
