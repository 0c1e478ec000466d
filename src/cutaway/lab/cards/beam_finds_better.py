"""Looking at several beginnings finds likelier texts than taking the likeliest token at each step.

Graves 2012 (arXiv 1211.3711), section 3; Sutskever et al. 2014 (arXiv 1409.3215), section 3.2: already a width of 2
gives most of the gain. Nothing is likelier than the best of all texts, which here are few enough to be read every one.
Read next: infer/beams.py, infer/search.py
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from cutaway.infer.language import Language
from cutaway.infer.searches import BeamSearch
from cutaway.lab.card import AtLeast, AtMost, Card, Finding
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope

VOCAB, LONG, MODELS = 6, 4, 24
WIDTHS = (2, 4, VOCAB ** (LONG - 1))  # the last keeps every beginning there is
MIXER = GroupedQuery(heads=2, kv_heads=1, head_dim=4, rope=Rope(width=4))
BLOCK = Block(mixer=MIXER, feed=Gated(hidden=16), before=RMSNorm())
SPEC = Decoder(vocab=VOCAB, dim=8, blocks=(BLOCK,), length=32, norm=RMSNorm())


def language(seed: int) -> Language:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = SPEC.build().double()
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.7)
        return Language(module)


@torch.no_grad()
def totals(one: Language, prompt: list[int], texts: Tensor) -> Tensor:
    """log p of each of the texts (B, T) behind the prompt, without a cache."""
    ids_BT = torch.cat([torch.tensor(prompt).expand(len(texts), -1), texts], 1)
    logprobs = one(ids_BT)[:, len(prompt) - 1 : -1].log_softmax(-1)
    return logprobs.gather(2, texts[:, :, None]).sum((1, 2))


def found(one: Language, prompt: list[int], width: int) -> float:
    """log p of the best text that a search of this width finds; 1 is greedy."""
    if width == 1:
        answer = one.generate(prompt, max_tokens=LONG)
    else:
        answer = one.search(prompt, BeamSearch(width=width), max_tokens=LONG)[0]
    return sum(answer.logprobs)


def _compute() -> tuple[Finding, ...]:
    every = torch.tensor(list(product(range(VOCAB), repeat=LONG)))
    best, reached = [], {width: [] for width in (1, *WIDTHS)}
    for seed in range(MODELS):
        one, prompt = language(seed), [seed % VOCAB, 3, 1]
        best.append(float(totals(one, prompt, every).max()))
        for width, told in reached.items():
            told.append(found(one, prompt, width))
    means = {
        width: sum(top - ours for top, ours in zip(best, told, strict=True)) / MODELS for width, told in reached.items()
    }
    likelier = sum(four > greedy + 1e-9 for four, greedy in zip(reached[4], reached[1], strict=True))
    beyond = max(ours - top for told in reached.values() for top, ours in zip(best, told, strict=True))
    whole = max(abs(top - ours) for top, ours in zip(best, reached[WIDTHS[-1]], strict=True))
    return (
        Finding(
            what="models where a width of 4 finds a likelier text than greedy",
            expected=AtLeast(value=MODELS / 4),
            ours=likelier,
        ),
        Finding(what="nats short of the best text, greedy", expected=AtLeast(value=0.05), ours=means[1]),
        Finding(what="width 2: share of greedy's", expected=AtMost(value=0.6), ours=means[2] / means[1]),
        Finding(what="width 4: share of greedy's", expected=AtMost(value=0.25), ours=means[4] / means[1]),
        Finding(what="every beginning kept: nats from the best", expected=AtMost(value=1e-6), ours=whole),
        Finding(what="nats beyond the best text of all", expected=AtMost(value=1e-6), ours=beyond),
    )


CARD = Card(
    name="beam-finds-better",
    claim="A beam search finds likelier texts than greedy decoding does, and most of the gain at a width of 2.",
    source="Graves 2012 (arXiv 1211.3711), section 3; Sutskever et al. 2014 (arXiv 1409.3215), section 3.2",
    computed="texts of 4 tokens by 24 random decoders of 6 tokens: greedy, widths 2, 4 and 216, and all 1,296 texts",
    tolerance="1e-6 nats: a search's logprobs are float32; how much is gained depends on the model, and is bounded",
    seconds=6,
    compute=_compute,
)
