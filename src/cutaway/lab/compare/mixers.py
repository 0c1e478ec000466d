"""Attention by short names: `gqa:2`, `window:256`. A line for each kind, and what its number means.

All of one model's width and heads, with RoPE except where something stands in its place.
Read next: nn/attention/grouped.py, nn/attention/latent.py, nn/attention/native_sparse.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.nn.alibi import Alibi
from cutaway.nn.attention.block_sparse import BlockSparse, mask
from cutaway.nn.attention.gated_delta import GatedDelta
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.attention.latent import Latent
from cutaway.nn.attention.native_sparse import NativeSparse
from cutaway.nn.block import Mixer
from cutaway.nn.positions import Rope

BEHIND = 128  # tokens that may be decoded behind the longest context
SINKS = 4  # first tokens that stay seen; StreamingLLM, section 3.2: four suffice


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What all that are compared share. `longest`: tokens of the longest context."""

    dim: int
    heads: int
    longest: int

    def __post_init__(self) -> None:
        for name in ("dim", "heads", "longest"):
            if getattr(self, name) < 1:
                raise BadInput(f"must be at least 1, is {getattr(self, name)}", field=name)
        if self.dim % (4 * self.heads):
            said = f"{self.heads} heads need a multiple of {4 * self.heads}, halves of a head rotate in pairs"
            raise BadInput(f"{said}; is {self.dim}", field="dim")

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    def grouped(self, kv_heads: int, **more: Any) -> GroupedQuery:
        more = {"rope": Rope(width=self.head_dim), **more}
        return GroupedQuery(heads=self.heads, kv_heads=kv_heads, head_dim=self.head_dim, **more)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """`number`: what stands behind the colon; None, nothing may. `usual`: it, where nothing does. `rate`: FLOP/s that
    reading a long text reaches on one core of a server, for an estimate."""

    about: str
    make: Callable[[Shape, int], Mixer]
    number: str | None = None
    usual: Callable[[Shape], int] = lambda _: 0
    rate: float = 30e9


def _quarter(shape: Shape) -> int:
    return max(1, shape.heads // 4)


def _latent(shape: Shape, rank: int) -> Mixer:
    rope = Rope(width=shape.head_dim // 2)
    return Latent(heads=shape.heads, rank=rank, head_dim=shape.head_dim, rope=rope)


def _native_sparse(shape: Shape, kv_heads: int) -> Mixer:
    return NativeSparse(heads=shape.heads, kv_heads=kv_heads, head_dim=shape.head_dim, rope=Rope(width=shape.head_dim))


def _gated_delta(shape: Shape, key_heads: int) -> Mixer:
    return GatedDelta(heads=shape.heads, key_heads=key_heads, head_dim=shape.head_dim)


def _block_sparse(shape: Shape, block: int) -> Mixer:
    if block < 1:
        raise BadInput(f"must be at least 1, is {block}", field="BlockSparse.block")
    seen = mask(-(-(shape.longest + BEHIND) // block), near=4, first=1)
    rope = Rope(width=shape.head_dim)
    return BlockSparse(
        heads=shape.heads, kv_heads=shape.heads, head_dim=shape.head_dim, block=block, seen=seen, rope=rope
    )


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "mha": Kind(
            about="every head has keys and values of its own", make=lambda shape, _: shape.grouped(shape.heads)
        ),
        "gqa": Kind(
            about="heads share so many key-value heads",
            make=lambda shape, kv_heads: shape.grouped(kv_heads),
            number="kv heads",
            usual=_quarter,
        ),
        "mqa": Kind(about="all heads share one key-value head", make=lambda shape, _: shape.grouped(1)),
        "mla": Kind(
            about="one latent vector of so many numbers for each token, and one rotated key",
            make=_latent,
            number="rank",
            usual=lambda shape: 2 * shape.head_dim,
        ),
        "window": Kind(
            about="the last so many tokens",
            make=lambda shape, window: shape.grouped(shape.heads, window=window),
            number="tokens",
            usual=lambda _: 256,
        ),
        "sinks": Kind(
            about=f"the last so many tokens and the first {SINKS}",
            make=lambda shape, window: shape.grouped(shape.heads, window=window, sinks=SINKS),
            number="tokens",
            usual=lambda _: 256,
        ),
        "alibi": Kind(
            about="distances in place of rotations",
            make=lambda shape, _: shape.grouped(shape.heads, rope=None, alibi=Alibi()),
            rate=12e9,
        ),
        "nsa": Kind(
            about="all blocks in short, 16 of them in full, and the last 512 tokens; so many key-value heads",
            make=_native_sparse,
            number="kv heads",
            usual=_quarter,
            rate=10e9,
        ),
        "block-sparse": Kind(
            about="blocks of so many tokens: the own, the three before, the first",
            make=_block_sparse,
            number="tokens",
            usual=lambda _: 64,
            rate=9e9,
        ),
        "delta": Kind(
            about="Gated DeltaNet: a state for each head in place of a cache; so many key heads",
            make=_gated_delta,
            number="key heads",
            usual=lambda shape: shape.heads,
            rate=8e9,
        ),
    }
)


def mixer(part: str, shape: Shape) -> Mixer:
    """The value that `name[:number]` stands for. Raises BadInput naming the part, with the nearest name where there is
    no such."""
    name, colon, number = part.partition(":")
    if name not in KINDS:
        raise BadInput(f'no attention is called "{name}"{did_you_mean(name, KINDS)}', field="parts")
    kind = KINDS[name]
    if colon and kind.number is None:
        raise BadInput(f"{name} takes no number, is {part}", field="parts")
    if colon and not (number.isdecimal() and len(number) < 10):
        raise BadInput(f'a number of {kind.number} stands behind the colon, not "{number}"', field="parts")
    try:
        made = kind.make(shape, int(number) if colon else kind.usual(shape))
    except BadInput as error:
        raise BadInput(f"{part}: {error}", field="parts") from error
    if isinstance(made, GroupedQuery) and made.window is not None and made.window > shape.longest:
        raise BadInput(f"{part}: the window reaches beyond the longest context, {shape.longest}", field="parts")
    return made


def rate(part: str) -> float:
    """FLOP/s to expect."""
    return KINDS[part.partition(":")[0]].rate


def about(part: str) -> str:
    """What a part is, in a few words."""
    return KINDS[part.partition(":")[0]].about
