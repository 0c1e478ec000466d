"""What a cache of keys and values saves: each token passes the matrices once, and not with every token behind it.

Shazeer 2019 (arXiv 1911.02150), section 2.4: incremental decoding. To write n tokens behind a first one without a cache
is to read 1 + 2 + ... + n tokens, with one n: (n + 1) / 2 times fewer products of weights.
Read next: nn/cache.py, infer/continuation.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from cutaway.lab.card import AtLeast, Card, Finding, Near
from cutaway.lab.cards.random_weights import drawn
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope

TOKENS, FIRST = 127, 1
MIXER = GroupedQuery(heads=4, kv_heads=2, head_dim=32, rope=Rope(width=32))
BLOCK = Block(mixer=MIXER, feed=Gated(hidden=512), before=RMSNorm())
SPEC = Decoder(vocab=512, dim=128, blocks=(BLOCK,) * 2, length=256, norm=RMSNorm())
DEVIATION = 0.08


@torch.inference_mode()
def with_cache(module: DecoderModel, count: int) -> list[int]:
    """The likeliest `count` tokens behind the first, one pass of one token for each."""
    cache, ids = ContiguousCache(SPEC.streams(), dtype=torch.float64), [FIRST]
    for _ in range(count):
        logits_1V, _ = module(torch.tensor(ids[-1:]), Context.of((1,), cache=cache))
        ids.append(int(logits_1V[0].argmax()))
    return ids


@torch.inference_mode()
def without(module: DecoderModel, count: int) -> list[int]:
    """The same by reading the whole text for each token."""
    ids, last = [FIRST], torch.tensor([0])
    for end in range(count):
        logits_1V, _ = module(torch.tensor(ids), Context.of((len(ids),)), last + end)
        ids.append(int(logits_1V[0].argmax()))
    return ids


def counted(write: Callable[[DecoderModel, int], list[int]], module: DecoderModel) -> tuple[int, list[int]]:
    """FLOPs of products with weights, the head's left out (both ask it for one token), and the text."""
    with FlopCounterMode(display=False) as counter:
        ids = write(module, TOKENS)
    products = counter.get_flop_counts()["Global"]
    linear = sum(flops for name, flops in products.items() if str(name) in ("aten.mm", "aten.addmm"))
    return linear - 2 * TOKENS * SPEC.dim * SPEC.vocab, ids


def seconds(write: Callable[[DecoderModel, int], list[int]], module: DecoderModel) -> float:
    """Of this process's processors; the least of two times."""
    taken = []
    for _ in range(2):
        start = time.process_time()
        write(module, TOKENS)
        taken.append(time.process_time() - start)
    return min(taken)


def _compute() -> tuple[Finding, ...]:
    module = drawn(SPEC, DEVIATION)
    (once, text), (again, same) = counted(with_cache, module), counted(without, module)
    passes = sum(one.cost(SPEC.dim, TOKENS, TOKENS).flops for one in SPEC.blocks)
    faster = seconds(without, module) / seconds(with_cache, module)
    equal = sum(ours == theirs for ours, theirs in zip(text, same, strict=True)) - 1
    return (
        Finding(what="products of weights, times fewer", expected=Near(value=(TOKENS + 1) / 2), ours=again / once),
        Finding(what="tokens that are the same", expected=Near(value=TOKENS), ours=equal),
        Finding(what="different tokens in the text", expected=AtLeast(value=10), ours=len(set(text))),
        Finding(what="of a model's FLOPs so counted", expected=AtLeast(value=0.8), ours=once / passes),
        Finding(what="times less processor time", expected=AtLeast(value=2), ours=faster),
    )


CARD = Card(
    name="kv-cache-speedup",
    claim="With keys and values kept, a text of 128 tokens takes 64 times fewer products of weights, and less time.",
    source="Shazeer 2019 (arXiv 1911.02150), section 2.4",
    computed="127 tokens written by a random decoder with a cache and without: products counted by torch, and timed",
    tolerance="none for counts; of time only twice is claimed: passes of a small model cost mostly their calls",
    seconds=8,
    compute=_compute,
)
