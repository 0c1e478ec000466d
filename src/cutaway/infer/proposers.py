"""Who proposes the next tokens: the text itself, a small model, or the first blocks of the same model.

  PromptLookup   what stood behind the same few tokens before    (Saxena 2023, "Prompt Lookup Decoding"; LLMA, Yang et
                                                                  al. 2023, arXiv 2304.04487)
  Draft          a smaller model with the same tokenizer    (arXiv 2211.17192, 2302.01318)
  EarlyExit      the model's own first blocks, then norm and head    (LayerSkip, Elhoushi et al. 2024, arXiv 2404.16710)
Each is a value; `begin` makes the guesser of one answer, which may keep a cache of its own.
Departure from LayerSkip: the first blocks keep their keys and values a second time, so that the proposer knows nothing
of the target's cache, contiguous or paged; the proof then runs all blocks again, not only the later ones.
V vocabulary.   Read next: infer/acceptance.py, infer/speculate.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.infer.acceptance import Choosing, Proposal, drawn
from cutaway.infer.continuation import Continuation
from cutaway.models.decoder import DecoderModel

if TYPE_CHECKING:
    from cutaway.text.tokenizer import Tokenizer

MOST = 32  # tokens of one proposal: nobody is right so often


class Speaker(Protocol):
    """What a proposer needs of a `Language`, the target's or a draft's."""

    module: Any
    tokenizer: Tokenizer | None
    source: str | None

    def continuation(self) -> Continuation: ...


class Guesser(Protocol):
    """Proposes for one answer. `cheap`: its guesses cost nothing that is worth counting."""

    cheap: bool

    def propose(self, seen: Sequence[int], count: int, choosing: Choosing) -> Proposal:
        """At most `count` tokens that may come behind `seen`; none where it has no idea."""
        ...


class Proposer(Protocol):
    """The value of a proposer. `count`: most tokens of a proposal. `adaptive`: fewer or none where they do not pay."""

    @property
    def count(self) -> int: ...
    @property
    def adaptive(self) -> bool: ...
    def begin(self, language: Speaker) -> Guesser:
        """The guesser of one answer of that model. Raises BadInput where the two do not fit."""
        ...


@dataclass(frozen=True, kw_only=True)
class PromptLookup:
    """Looks for the last `longest` tokens in the text so far, then for fewer, down to `shortest`."""

    count: int = 10
    longest: int = 4
    shortest: int = 2
    adaptive: bool = True

    def __post_init__(self) -> None:
        _check(self, 1, "longest", "shortest")
        if self.shortest > self.longest:
            raise BadInput(f"must not be above longest, {self.longest}, is {self.shortest}", field="shortest")

    def begin(self, language: Speaker | None = None) -> Lookup:
        return Lookup(self)


class Lookup:
    """Where each run of tokens last stood, kept up as the text grows."""

    cheap = True

    def __init__(self, spec: PromptLookup):
        self.spec = spec
        self.known = 0  # tokens of the text whose runs are in the index
        self.behind: dict[tuple[int, ...], int] = {}  # a run -> the place behind its last occurrence

    def propose(self, seen: Sequence[int], count: int, choosing: Choosing | None = None) -> Proposal:
        sizes = range(self.spec.shortest, self.spec.longest + 1)
        for end in range(self.known + 1, len(seen)):  # the run at the very end is the one that is looked for
            for size in sizes:
                if size <= end:
                    self.behind[tuple(seen[end - size : end])] = end
        self.known = max(self.known, len(seen) - 1)
        for size in reversed(sizes):
            place = self.behind.get(tuple(seen[-size:])) if size <= len(seen) else None
            if place is not None:
                found = list(seen[place : place + count])
                step = len(seen) - place  # where the text's end is met, what was found goes on as it began
                while len(found) < count:
                    found.append(found[-step])
                return Proposal(tokens=tuple(found), kind=size)
        return Proposal()


@dataclass(frozen=True, kw_only=True, eq=False)
class Draft:
    """A smaller model. Where the target draws, it draws too, from its own distribution under the same `Decoding`."""

    language: Speaker
    count: int = 4
    adaptive: bool = True

    def __post_init__(self) -> None:
        _check(self, 1)
        if not isinstance(self.language.module, DecoderModel):
            raise BadInput("only a decoder writes what another may keep", source=self.language.source, field="draft")

    def begin(self, language: Speaker) -> Drafting:
        ours, theirs = language.module.spec.vocab, self.language.module.spec.vocab
        if ours != theirs or not _alike(language.tokenizer, self.language.tokenizer):
            said = f"has other tokens ({theirs} ids) than the model it is to propose for ({ours})"
            raise BadInput(said, source=self.language.source, field="draft")
        return Drafting(self.language.continuation())


@dataclass(frozen=True, kw_only=True)
class EarlyExit:
    """The target's own first `blocks`, with its norm and its head."""

    blocks: int
    count: int = 4
    adaptive: bool = True

    def __post_init__(self) -> None:
        _check(self, 1, "blocks")

    def begin(self, language: Speaker) -> Drafting:
        held = language.continuation()
        return Drafting(
            Continuation(prefix(held.module, self.blocks), held.forms, dtype=held.dtype, device=held.device)
        )


class Drafting:
    """A model that writes ahead. What was not kept of its last proposal is taken back when the next is asked for."""

    cheap = False

    def __init__(self, held: Continuation):
        self.held = held

    @torch.inference_mode()
    def propose(self, seen: Sequence[int], count: int, choosing: Choosing) -> Proposal:
        count = min(count, self.held.module.spec.length - len(seen) + 1)
        if count < 1:
            return Proposal()
        text, chances = list(seen), []
        logits_V = self.held.feed(self.held.rewind(text, room=len(text) + count))
        while True:
            if choosing.certain:
                text.append(choosing.likeliest(logits_V, text))
            else:
                chances.append(choosing.distribution(logits_V, text))
                text.append(drawn(chances[-1], choosing.draw))
            if len(text) == len(seen) + count:
                return Proposal(tokens=tuple(text[len(seen) :]), chances_XV=_stacked(chances))
            logits_V = self.held.feed(text[-1:])


def prefix(module: DecoderModel, blocks: int) -> DecoderModel:
    """The same model without its later blocks: all its parts are the module's own. Raises BadInput for none of them
    and for more than there are."""
    if not 1 <= blocks < len(module.blocks):
        raise BadInput(f"must be from 1 to {len(module.blocks) - 1}, is {blocks}", field="blocks")
    with torch.device("meta"):
        made = replace(module.spec, blocks=module.spec.blocks[:blocks]).build()
    made.embedding, made.positions, made.norm, made.head = module.embedding, module.positions, module.norm, module.head
    made.blocks = nn.ModuleList(list(module.blocks)[:blocks])
    return made.eval()


def _stacked(chances: list[Tensor]) -> Tensor | None:
    return torch.stack(chances) if chances else None


def _alike(ours: Tokenizer | None, theirs: Tokenizer | None) -> bool:
    if ours is None or theirs is None or ours is theirs:
        return True
    return ours.vocabulary.backend.get_vocab() == theirs.vocabulary.backend.get_vocab()


def _check(value: Any, least: int, *names: str) -> None:
    for name in ("count", *names):
        number = getattr(value, name)
        if type(number) is not int or number < least:
            raise BadInput(f"must be a whole number, at least {least}, is {number!r}", field=name)
    if value.count > MOST:
        raise BadInput(f"must be at most {MOST}, is {value.count}", field="count")
