"""Guesses change how fast an answer comes and nothing else: drawn, it is distributed as before; greedy, it is the same.

Leviathan et al. 2022 (arXiv 2211.17192), appendix A.1; Chen et al. 2023 (arXiv 2302.01318), theorem 1: what is kept of
q's tokens and drawn in place of the others is distributed as p, whatever q. Here p is SmolLM2's next token behind a
text under temperature and top-k, and q what its own first 24 of 30 blocks say: they agree on little, so that most
guesses are refused, and every token that is drawn in their place counts.
Departure: greedy answers are held together in exact arithmetic (fp32). The fast kernels round a pass of several tokens
other than one token's, and where two tokens are nearly as likely, a text may part.
V vocabulary.   Read next: infer/acceptance.py, infer/speculate.py
"""

from __future__ import annotations

import random
from collections import Counter

import torch
from torch import Tensor

from cutaway.infer.acceptance import Choosing, drawn, judged
from cutaway.infer.decoding import Decoding
from cutaway.infer.language import Language
from cutaway.infer.load import load
from cutaway.infer.proposers import EarlyExit, PromptLookup, Proposer, prefix
from cutaway.lab.card import AtLeast, AtMost, Card, Finding, Near
from cutaway.lab.data_sets import shelved
from cutaway.models.decoder import DecoderModel
from cutaway.nn.context import Context
from cutaway.ops.forms import NAMED

MODEL, BLOCKS, DRAWS, TOKENS = "smollm2-135m", 24, 6000, 28
DECODING = Decoding(temperature=1.5, top_k=12)
TEXT = "The keeper of the lighthouse opened the old map and saw that"
PROMPTS = (
    "one two three four one two three four one two",
    "The capital of France is Paris. The capital of Italy is Rome. The capital of",
)


def chances(language: Language, text: str = TEXT, blocks: int = BLOCKS) -> tuple[Tensor, Tensor]:
    """p and q behind the text, (V,) each."""
    assert isinstance(language.module, DecoderModel)
    ids = language.encode(text)
    how, found = Choosing(decoding=DECODING, draw=random.Random(0), prompt=len(ids)), []
    for module in (language.module, prefix(language.module, blocks)):
        with torch.inference_mode():
            logits_NV, _ = module(torch.tensor(ids), Context.of((len(ids),), forms=language.forms))
            found.append(how.distribution(logits_NV[-1], ids))
    return found[0], found[1]


def likely(found: Counter[int], p_V: Tensor) -> float:
    """The probability of counts so far from p, by chi-square; 0 where something came that p rules out."""
    count = found.total()
    ids = p_V.nonzero()[:, 0].tolist()
    if any(float(p_V[token]) == 0.0 for token in found):
        return 0.0
    square = sum((found[token] - count * float(p_V[token])) ** 2 / (count * float(p_V[token])) for token in ids)
    halves = torch.tensor([(len(ids) - 1) / 2, square / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(halves[0], halves[1]))


def parted(language: Language, proposers: tuple[Proposer, ...], tokens: int = TOKENS) -> tuple[int, int]:
    """Greedy answers that differ from those without guesses; and guesses that were kept in all."""
    differ = kept = 0
    for prompt in PROMPTS:
        plain = language.generate(prompt, max_tokens=tokens)
        for proposer in proposers:
            guessed = language.generate(prompt, max_tokens=tokens, proposer=proposer)
            differ += guessed.tokens != plain.tokens
            kept += guessed.speculated.accepted if guessed.speculated else 0
    return differ, kept


def _compute() -> tuple[Finding, ...]:
    language = load(shelved(MODEL), forms=NAMED["exact"])
    assert isinstance(language, Language)
    p_V, q_V = chances(language)
    draw = random.Random(0)
    guesses = [drawn(q_V, draw) for _ in range(DRAWS)]
    tokens = [judged(guess, p_V, q_V, draw) for guess in guesses]
    rate = sum(guess == token for guess, token in zip(guesses, tokens, strict=True)) / DRAWS
    lookup = PromptLookup(shortest=1, adaptive=False)
    differ, kept = parted(language, (lookup, EarlyExit(blocks=28, count=2, adaptive=False)))
    return (
        Finding(
            what="probability of the drawn tokens under p",
            expected=AtLeast(value=0.001),
            ours=likely(Counter(tokens), p_V),
        ),
        Finding(
            what="the same of the guesses themselves", expected=AtMost(value=1e-9), ours=likely(Counter(guesses), p_V)
        ),
        Finding(
            what="share of guesses kept: the sum of min(p, q)",
            expected=Near(value=float(torch.minimum(p_V, q_V).sum()), tolerance=0.2),
            ours=rate,
        ),
        Finding(what="greedy answers that differ", expected=Near(value=0), ours=differ),
        Finding(what="guesses kept in them", expected=AtLeast(value=10), ours=kept),
    )


CARD = Card(
    name="speculative-lossless",
    claim="An answer with guesses is distributed as without them; a greedy one is the same, token for token.",
    source="Leviathan et al. 2022 (arXiv 2211.17192), appendix A.1; Chen et al. 2023 (arXiv 2302.01318), theorem 1",
    computed="6,000 draws behind a text of SmolLM2 (chi-square); greedy answers to two prompts by two proposers",
    tolerance="1 in 1,000 for the chi-square, one fixed seed; 20% of the share is four deviations; none for answers",
    seconds=25,
    compute=_compute,
)
