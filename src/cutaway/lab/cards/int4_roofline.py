"""What memory allows a decoder in 4 bits: a token reads every weight once, so bytes over bandwidth bound its time.

Williams, Waterman, Patterson 2009 (CACM 52(4)): speed <= min(rate, bandwidth * operations per byte). One token
multiplies and adds once for each weight, 2 / 0.5625 = 3.6 operations for each byte of q4_0: far to the left of any
machine's ridge, so that
    tokens per second <= bandwidth / (bytes of weights + bytes of cache)
The decoder is random, of 240 MB in q4_0, more than most processors' caches hold; bandwidth is that at which as many
bytes are read, so that the bound is one of the cache where they do fit, and then the card says so. Both are measured in
turn, best of some rounds each: what else a machine does makes either slower.
Read next: lab/bound.py, lab/compare/matmul.py
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from cutaway.infer.language import Language
from cutaway.lab.bound import Bound, traffic
from cutaway.lab.card import AtLeast, AtMost, Card, Finding, Near, NoData
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.cpu.memory import ARENA
from cutaway.ops.cpu.steps.library import read, steps
from cutaway.ops.forms import NAMED
from cutaway.ops.packed import Packed
from cutaway.weights.assemble import Shape, assemble

MIXER = GroupedQuery(heads=16, kv_heads=4, head_dim=128, rope=Rope(width=128))
BLOCK = Block(mixer=MIXER, feed=Gated(hidden=5632), before=RMSNorm())
SPEC = Decoder(vocab=32_000, dim=2048, blocks=(BLOCK,) * 8, length=256, norm=RMSNorm())
ROUNDS, TOKENS, PROMPT = 6, 8, 4
BEYOND = 512 << 20  # bytes that are read to see whether fewer of them come from a cache
CACHED = 1.3  # times faster, and they do


class Drawn:
    """A source of weights for `assemble`: matrices of random 4-bit blocks, all else ones."""

    def __init__(self, seed: int = 0):
        self._shapes: Mapping[str, Shape] = {}
        self._generator = torch.Generator().manual_seed(seed)

    def check(self, expected: Mapping[str, Shape]) -> None:
        self._shapes = expected

    def dtype(self) -> torch.dtype:
        return torch.float32

    def read(self, name: str) -> Tensor | Packed:
        shape, format = self._shapes[name], FORMATS["q4_0"]
        if len(shape) != 2:
            return torch.ones(shape)
        size = (shape[0], format.row_bytes(shape[1]))
        blocks = torch.randint(0, 256, size, dtype=torch.uint8, generator=self._generator)
        scale = torch.tensor([shape[1] ** -0.5 / 4.6]).half()  # 4.6 is the deviation of 0 .. 15: rows have length 1
        blocks.unflatten(1, (-1, format.bytes))[..., :2] = scale.view(torch.uint8)
        return Packed(blocks=blocks, format=format)


def best(once: Callable[[], object]) -> float:
    """Seconds of the quicker of two calls."""
    spent = []
    for _ in range(2):
        start = time.perf_counter()
        once()
        spent.append(time.perf_counter() - start)
    return min(spent)


def measured(spec: Decoder, beyond: int = BEYOND) -> tuple[Bound, float, int]:
    """The bound of a random decoder and its time; bytes a second of a buffer no cache holds; parameters.

    Raises NoData where there are no kernels.
    """
    found = steps()
    if found.library is None:
        raise NoData(f"there are no kernels here: {found.why}")
    module = assemble(spec, Drawn(), torch.float32, "cpu")
    assert isinstance(module, DecoderModel)
    held = Language(module, forms=NAMED["kernels-int8"]).continuation()
    held.rewind([1] * (PROMPT + ROUNDS * TOKENS + 1), PROMPT + ROUNDS * TOKENS + 1)
    held.feed([1] * PROMPT)
    held.feed([1])  # weights are repacked, and lists are made
    weights, cache = (
        traffic(module),
        sum(stream.bytes(PROMPT, torch.float16) for layer in spec.streams() for stream in layer),
    )
    buffer = ARENA.empty(weights // 4, dtype=torch.float32).fill_(1.0)
    far = ARENA.empty(beyond // 4, dtype=torch.float32).fill_(1.0)
    reading, token, farther = [], [], []
    for _ in range(ROUNDS):
        reading.append(best(partial(read, buffer)))
        token += [best(partial(held.feed, [1])) for _ in range(TOKENS // 2)]
        farther.append(best(partial(read, far)))
    bound = Bound(
        weights=weights,
        cache=cache,
        bandwidth=buffer.nbytes / min(reading),
        seconds=min(token),
        products=min(token),
    )
    return bound, far.nbytes / min(farther), spec.cost(1, 1).parameters


def _compute() -> tuple[Finding, ...]:
    bound, beyond, parameters = measured(SPEC)
    place = "cache" if bound.bandwidth > CACHED * beyond else "memory"
    reached = bound.rate / bound.roof
    where = f"tokens/s, {bound.weights / 1e6:.0f} MB at {bound.bandwidth / 1e9:.1f} GB/s from {place}"
    return (
        Finding(
            what="bits read for each weight",
            expected=Near(value=4.5, tolerance=0.01),
            ours=8 * bound.weights / parameters,
        ),
        Finding(what=where, expected=AtMost(value=1.15 * bound.roof), ours=bound.rate),
        Finding(what="share of bandwidth reached", expected=AtLeast(value=0.3), ours=reached),
    )


CARD = Card(
    name="int4-roofline",
    claim="A token reads each 4-bit weight once, 4.5 bits with its scale, and so bandwidth over bytes bounds decoding.",
    source="Williams, Waterman, Patterson 2009, Roofline (CACM 52(4)); ggml, ggml-common.h: q4_0",
    computed="a random decoder of 240 MB in q4_0 on our kernels, int8 activations, beside reading as many bytes",
    tolerance="best of 6 rounds each, in turn; 15% above the bound where a busy machine disturbed the reading more",
    seconds=20,
    compute=_compute,
)
