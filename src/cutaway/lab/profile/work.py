"""What each part of a step has to do at least: bytes that it reads, and FLOPs, by what the parts say of themselves.

Bytes are those of weights, of what the cache keeps, and of logits: each once, as they are held (in blocks where they
are packed; in bfloat16 where a long pass has unpacked them). Activations are not counted: they are small, or meant to
stay in the processor's cache. FLOPs are `cost`'s: products only.
    seconds >= max(bytes / bandwidth, FLOPs / rate)        the roofline: Williams et al. 2009, CACM 52(4)
N tokens of all sequences · X of them whose logits are asked for · D model dim · V vocabulary
Read next: nn/cost.py, lab/profile/phase.py
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from cutaway.lab.tensors import held
from cutaway.models.decoder import DecoderModel
from cutaway.nn.experts.mixture import ExpertsFeed
from cutaway.nn.linear import Linear
from cutaway.nn.positions import LearnedPositions
from cutaway.nn.quantised import QuantisedLinear
from cutaway.nn.stream import Stream
from cutaway.ops.multiply.nibbles import Nibbles
from cutaway.ops.packed import Packed

Span = tuple[int, int]
"""The tokens that a sequence brings, and how long it is then."""


@dataclass(frozen=True)
class Work:
    """What a part reads, in bytes, and what it multiplies and adds."""

    bytes: float = 0.0
    flops: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.bytes + other.bytes, self.flops + other.flops)

    def least(self, bandwidth: float, rate: float) -> float:
        """Seconds that a machine of so many bytes and FLOPs a second cannot do without."""
        return max(self.bytes / bandwidth, self.flops / rate)


def work(module: DecoderModel, spans: Sequence[Span], logits: int, dtype: torch.dtype) -> dict[str, Work]:
    """The work of one pass, by the names of lab/profile/watch.py. `dtype`: what the cache is held in."""
    spec, dim = module.spec, module.spec.dim
    tokens = sum(count for count, _ in spans)
    table, head = module.embedding, module.head or module.embedding
    found = {
        "embedding": Work(tokens * _weights([table], 0) / spec.vocab),
        "norms": Work(_norms(module)),
        "head": Work(_weights([head], logits) if logits else 0.0, 2.0 * logits * dim * spec.vocab),
        "sampling": Work(4.0 * logits * spec.vocab),
    }
    if isinstance(module.positions, LearnedPositions):
        found["positions"] = Work(tokens * module.positions.weight[0].nbytes)
    for name in ("projections", "attention", "cache", "feed"):
        found[name] = Work()
    for value, block in zip(spec.blocks, module.blocks, strict=True):
        parts = block._modules
        mixer, feed = parts["mixer"], parts["feed"]
        assert mixer is not None and feed is not None
        maps = [one for one in mixer.modules() if isinstance(one, Linear | QuantisedLinear)]
        every = sum(value.mixer.cost(dim, count, length).flops for count, length in spans)
        mapped = min(every, sum(2 * tokens * math.prod(_shape(one)) for one in maps))
        streams = value.mixer.streams(dim)
        kept = sum(stream.bytes(length, dtype) for stream in streams for _, length in spans)
        found["projections"] += Work(_weights([mixer], tokens) - _norms(mixer), mapped)
        found["attention"] += Work(kept, every - mapped)
        found["cache"] += Work(sum(_written(stream, spans, dtype) for stream in streams))
        found["feed"] += Work(_fed(feed, tokens), value.feed.cost(dim, tokens, tokens).flops)
    return found


def mean(found: Sequence[dict[str, Work]]) -> dict[str, Work]:
    """Part by part, that of several passes."""
    names = dict.fromkeys(name for one in found for name in one)
    total = {name: sum((one.get(name, Work()) for one in found), Work()) for name in names}
    return {name: Work(one.bytes / len(found), one.flops / len(found)) for name, one in total.items()}


def _weights(parts: Iterable[nn.Module], rows: int) -> float:
    """Bytes of all that these hold, as a product with so many rows reads it."""
    return float(sum(_read(part, rows) for one in parts for part in one.modules()))


def _read(part: nn.Module, rows: int) -> int:
    if isinstance(part, Packed):
        return 0  # it is its owner's weight
    packed = getattr(part, "packed", None)
    if isinstance(packed, Packed) and rows > Nibbles.most and packed.unpacked is not None:
        return packed.unpacked.nbytes
    return sum(tensor.bytes for tensor in held(part))


def _norms(module: nn.Module) -> float:
    names = ("RMSNormModule", "LayerNormModule", "BatchNormModule")
    return _weights((part for part in module.modules() if type(part).__name__ in names), 0)


def _fed(feed: nn.Module, tokens: int) -> float:
    """Bytes of a feed's weights that so many tokens need: of experts, as many as these can choose at most."""
    if not isinstance(feed, ExpertsFeed):
        return _weights([feed], tokens)
    experts = _weights([feed.experts], tokens)
    used = min(1.0, tokens * feed.spec.router.top_k / feed.spec.count)
    return _weights([feed], tokens) - experts + used * experts


def _written(stream: Stream, spans: Sequence[Span], dtype: torch.dtype) -> float:
    row = math.prod(stream.shape) * stream.held_in(dtype).itemsize
    if stream.per != "token":
        return row * len(spans)
    return sum(row * (length // stream.every - (length - count) // stream.every) for count, length in spans)


def _shape(map: Linear | QuantisedLinear) -> tuple[int, ...]:
    return tuple(map.packed.shape if isinstance(map, QuantisedLinear) else map.weight.shape)
