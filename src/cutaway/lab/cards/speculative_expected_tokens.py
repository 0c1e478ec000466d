"""How many tokens a pass gives where each of g guesses is kept with probability a: (1 - a^(g+1)) / (1 - a).

Leviathan et al. 2022 (arXiv 2211.17192), equation 1 and figure 2; with a = 0.75 and g = 7 it is 3.60.
Three ways: the formula; coins that fall; and a decoder that writes, with a proposer made so that a is 0.75 everywhere:
it draws from q = 0.75 p + 0.25 z, where p is the target's own distribution and z a token that it must never say, so
that the sum of min(p, q), the probability that a guess is kept (their theorem 3.5), is 0.75.
V vocabulary.   Read next: infer/speculated.py, infer/acceptance.py
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from cutaway.infer.acceptance import Choosing, Proposal, drawn
from cutaway.infer.continuation import Continuation
from cutaway.infer.decoding import Decoding
from cutaway.infer.language import Language
from cutaway.infer.proposers import Speaker
from cutaway.infer.speculate import Speculation, written
from cutaway.infer.speculated import Speculated, expected_tokens
from cutaway.lab.card import Card, Finding, Near
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope

RATE, GUESSES, NEVER = 0.75, 7, 0
BLOCK = Block(
    mixer=GroupedQuery(heads=2, kv_heads=1, head_dim=4, rope=Rope(width=4)), feed=Gated(hidden=16), before=RMSNorm()
)
SPEC = Decoder(vocab=16, dim=8, blocks=(BLOCK,), length=2048, norm=RMSNorm())


class Blunted:
    """Proposes from q: the model's own distribution, and with a share of 1 - `rate` the token that never comes."""

    cheap = adaptive = False

    def __init__(self, held: Continuation, rate: float = RATE, count: int = GUESSES):
        self.held, self.rate, self.count = held, rate, count

    def begin(self, language: Speaker) -> Blunted:
        return Blunted(language.continuation(), self.rate, self.count)

    @torch.inference_mode()
    def propose(self, seen: Sequence[int], count: int, choosing: Choosing) -> Proposal:
        text, chances = list(seen), []
        for _ in range(count):
            # What stands behind the forbidden token is read too: the target reads it as well, and keeps none of it.
            logits_V = self.held.feed(self.held.rewind(text, room=len(text) + count))
            q_V = self.rate * choosing.distribution(logits_V, text)
            q_V[NEVER] += 1.0 - self.rate
            chances.append(q_V)
            text.append(drawn(q_V, choosing.draw))
        return Proposal(tokens=tuple(text[len(seen) :]), chances_XV=torch.stack(chances) if chances else None)


def tossed(rate: float, guesses: int, passes: int, seed: int = 0) -> float:
    """Tokens a pass, by coins."""
    draw, tokens = random.Random(seed), 0
    for _ in range(passes):
        kept = 0
        while kept < guesses and draw.random() < rate:
            kept += 1
        tokens += kept + 1
    return tokens / passes


def wrote(tokens: int, seed: int = 0, rate: float = RATE, guesses: int = GUESSES) -> Speculated:
    """What came of guesses while a decoder wrote so many tokens."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        language = Language(SPEC.build())
    decoding = Decoding(temperature=1.0, banned=((NEVER,),), max_tokens=tokens)
    choosing = Choosing(decoding=decoding, draw=random.Random(seed), prompt=1)
    told = Speculation.of(Blunted(language.continuation(), rate, guesses), language)
    for _ in written(language.continuation(), [1], choosing, limit=tokens, sound=lambda logits: None, speculation=told):
        pass
    return told.told


def _compute() -> tuple[Finding, ...]:
    ours, run = expected_tokens(RATE, GUESSES), wrote(1800)
    rate, per_pass = run.rate or 0.0, run.per_pass or 0.0
    return (
        Finding(what="tokens a pass, by the formula", expected=Near(value=3.60, tolerance=0.001), ours=ours),
        Finding(
            what="the same by 100,000 throws",
            expected=Near(value=ours, tolerance=0.01),
            ours=tossed(RATE, GUESSES, 100_000),
        ),
        Finding(what="share of guesses a decoder kept", expected=Near(value=RATE, tolerance=0.06), ours=rate),
        Finding(what="tokens a pass it wrote", expected=Near(value=ours, tolerance=0.15), ours=per_pass),
        Finding(
            what="the same by the formula at its own share",
            expected=Near(value=per_pass, tolerance=0.08),
            ours=run.expected or 0.0,
        ),
    )


CARD = Card(
    name="speculative-expected-tokens",
    claim="Where each of 7 guesses is kept with probability 0.75, a pass gives (1 - 0.75^8) / 0.25 = 3.60 tokens.",
    source="Leviathan et al. 2022 (arXiv 2211.17192), equation 1",
    computed="the formula; 100,000 passes by coins; a small decoder that writes 1,800 tokens by drawn guesses",
    tolerance="0.1% for 3.60, printed to two decimals; 1% of throws is four deviations (2.5 / sqrt(100,000) each); 500 "
    "passes of a decoder: deviations of 3% in tokens and 1.5% in the share, of which four and five",
    seconds=12,
    compute=_compute,
)
