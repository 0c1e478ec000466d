"""What training a model needs on each of many devices: memory by kind, and bytes sent, for every way to divide it.

Rajbhandari et al. 2019 (arXiv 1910.02054), section 3 and figure 1: with Adam in mixed precision a parameter takes 2
bytes of weight, 2 of gradient and 12 of optimiser state (a float32 copy and two means). Over d devices
  ddp     2 + 2 + 12          zero-1  2 + 2 + 12 / d
  zero-2  2 + (2 + 12) / d    zero-3  (2 + 2 + 12) / d     (zero-3 is what train/parallel/shard.py does)
Sent by each device for each step, W bytes of weights and G of gradients (section 7): ddp 2 G (d - 1) / d; zero-1 and
zero-2 (G + W) (d - 1) / d; zero-3 (G + 2 W) (d - 1) / d. Tensor parallel: every sum over t devices of an (N, D)
residual sends 2 (t - 1) / t of it; pipeline: an inner stage sends one on and one gradient back.
Activations are counted by lab/residue.py. Departures: buffers that come and go (buckets, one chunk's scores) are left
out, but for the weights that zero-3 gathers.   Read next: lab/residue.py, train/parallel/zero.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from cutaway.base.errors import BadInput
from cutaway.lab.residue import block_bytes
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated, Plain

SHARDINGS = ("ddp", "zero-1", "zero-2", "zero-3")


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """Of one parameter: weight, gradient, state of Adam; `dtype` is that of activations and of what is sent of them."""

    weight: int
    gradient: int
    state: int
    dtype: torch.dtype


PRECISIONS = {
    "mixed": Bytes(weight=2, gradient=2, state=12, dtype=torch.bfloat16),  # the ZeRO paper's
    "float32": Bytes(weight=4, gradient=4, state=8, dtype=torch.float32),
    "bfloat16": Bytes(weight=2, gradient=2, state=4, dtype=torch.bfloat16),  # no float32 copy
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """`batch` sequences of `length` tokens for each of the devices that see different data, in one pass."""

    devices: int
    tensor: int = 1
    pipeline: int = 1
    batch: int = 1
    length: int = 1024
    precision: str = "mixed"

    def __post_init__(self) -> None:
        for name in ("devices", "tensor", "pipeline", "batch", "length"):
            if getattr(self, name) < 1:
                raise BadInput(f"must be at least 1, is {getattr(self, name)}", field=name)
        if self.precision not in PRECISIONS:
            raise BadInput(f'"{self.precision}" is not known (known: {", ".join(PRECISIONS)})', field="precision")
        taken = self.tensor * self.pipeline
        if self.devices % taken:
            shape = f"tensor {self.tensor} x pipeline {self.pipeline}"
            needs = f"at least {taken} devices" if self.devices < taken else f"a multiple of {taken} devices"
            raise BadInput(f"{shape} needs {needs}, there are {self.devices}", field="devices")

    @property
    def data(self) -> int:
        return self.devices // (self.tensor * self.pipeline)

    @property
    def bytes(self) -> Bytes:
        return PRECISIONS[self.precision]

    @property
    def tokens(self) -> int:
        return self.batch * self.length


@dataclass(frozen=True, kw_only=True)
class Share:
    """One device's part of a model: parameters, bytes of activations, bytes it sends within its copy of the model;
    None for what the model's size alone does not tell.

    `once`: parameters outside of blocks. `largest`: those of the largest block.
    """

    parameters: int
    activations: int | None = None
    sent: float | None = 0.0
    once: int = 0
    largest: int = 0


@dataclass(frozen=True, kw_only=True)
class Row:
    """Bytes on one device. `gathered`: weights borrowed while they are used (zero-3). `sent`: by it, each step."""

    strategy: str
    weights: float
    gradients: float
    state: float
    gathered: float
    activations: int | None
    sent: float | None

    @property
    def states(self) -> float:
        """What the ZeRO paper calls model states: all that lies there between steps."""
        return self.weights + self.gradients + self.state

    @property
    def total(self) -> float:
        return self.states + self.gathered + (self.activations or 0)


def plan(model: Decoder | int, setting: Setting, shardings: Sequence[str] = SHARDINGS) -> list[Row]:
    """A row for each way to shard what the devices along `data` hold. `model` may be a mere number of parameters.

    Raises BadInput where heads, widths or blocks cannot be shared out as the setting asks.
    """
    share = _even(model, setting) if isinstance(model, int) else _largest(_stages(model, setting))
    return [_row(name, share, setting) for name in shardings]


def _row(name: str, share: Share, setting: Setting) -> Row:
    if name not in SHARDINGS:
        raise BadInput(f'"{name}" is not known (known: {", ".join(SHARDINGS)})', field="strategy")
    data, each, stage = setting.data, setting.bytes, SHARDINGS.index(name)
    weights, gradients = share.parameters * each.weight, share.parameters * each.gradient
    once = share.once * each.weight
    rounds = {
        0: 2 * gradients,
        1: gradients + weights,
        2: gradients + weights,
        3: gradients + 2 * weights - once,  # what is outside of blocks stays from the forward to the backward pass
    }
    return Row(
        strategy=name,
        weights=weights / (data if stage >= 3 else 1),
        gradients=gradients / (data if stage >= 2 else 1),
        state=share.parameters * each.state / (data if stage >= 1 else 1),
        gathered=(once + share.largest * each.weight) if stage >= 3 and data > 1 else 0,
        activations=share.activations,
        sent=None if share.sent is None else share.sent + rounds[stage] * (data - 1) / data,
    )


def _even(parameters: int, setting: Setting) -> Share:
    """Of a model of which nothing is known but its size."""
    cut = setting.tensor * setting.pipeline
    return Share(parameters=-(-parameters // cut), sent=0.0 if cut == 1 else None)


def _stages(spec: Decoder, setting: Setting) -> Iterable[Share]:
    """The share of a device in each stage of the pipeline."""
    count = setting.pipeline
    if count > len(spec.blocks):
        raise BadInput(f"{count} stages are more than the {len(spec.blocks)} blocks", field="pipeline")
    blocks = [narrowed(block, setting.tensor) for block in spec.blocks]
    kinds = {block: _block_share(block, spec.dim, setting) for block in set(blocks)}
    for stage in range(count):
        first, last = len(blocks) * stage // count, len(blocks) * (stage + 1) // count
        own = Counter(blocks[first:last])
        outer = _outer_share(spec, setting, first=stage == 0, last=stage == count - 1)
        ends = (stage > 0) + (stage < count - 1)
        moved = setting.tokens * spec.dim * setting.bytes.dtype.itemsize
        yield Share(
            parameters=outer.parameters + sum(kinds[block].parameters * times for block, times in own.items()),
            activations=(outer.activations or 0)
            + sum((kinds[block].activations or 0) * times for block, times in own.items()),
            sent=ends * moved + sum((kinds[block].sent or 0) * times for block, times in own.items()),
            once=outer.parameters,
            largest=max(kinds[block].parameters for block in own),
        )


def _largest(shares: Iterable[Share]) -> Share:
    """The stage that needs the most: the others must wait for a device of that size."""
    return max(shares, key=lambda share: share.parameters * 16 + (share.activations or 0))


def narrowed(block: Block, count: int) -> Block:
    """What of a block one of `count` tensor-parallel devices has: fewer heads, a narrower feed."""
    if count == 1:
        return block
    mixer, feed = block.mixer, block.feed
    if not isinstance(mixer, GroupedQuery) or not isinstance(feed, (Plain, Gated)):
        names = f"{type(mixer).__name__} and {type(feed).__name__}"
        raise BadInput(f"blocks of {names} cannot be cut by heads and columns", field="tensor")
    for held, what in ((mixer.heads, "heads"), (mixer.kv_heads, "kv heads"), (feed.hidden, "hidden columns")):
        if held % count:
            raise BadInput(f"{held} {what} cannot be shared out among {count} devices", field="tensor")
    mixer = replace(mixer, heads=mixer.heads // count, kv_heads=mixer.kv_heads // count)
    return replace(block, mixer=mixer, feed=replace(feed, hidden=feed.hidden // count))


def _block_share(block: Block, dim: int, setting: Setting) -> Share:
    sums = 0
    if setting.tensor > 1:
        # Forward behind out and down; backward before query, key, value and before up (and gate).
        sums = 2 + 3 + (2 if isinstance(block.feed, Gated) else 1)
    residual = setting.tokens * dim * setting.bytes.dtype.itemsize
    lengths = (setting.length,) * setting.batch
    return Share(
        parameters=block.cost(dim, 1, 1).parameters,
        activations=block_bytes(block, dim, lengths, setting.bytes.dtype),
        sent=sums * 2 * (setting.tensor - 1) / setting.tensor * residual,
    )


def _outer_share(spec: Decoder, setting: Setting, *, first: bool, last: bool) -> Share:
    """Tables, the last norm, the head and the loss."""
    table = spec.vocab * spec.dim
    parameters, activations = 0, 0
    if first:
        places = spec.positions.cost(spec.dim, 1, 1).parameters if spec.positions else 0
        parameters += table + places
        activations += setting.tokens * 8  # the ids
    if last:
        norm = spec.norm.cost(spec.dim, 1, 1).parameters if spec.norm else 0
        own_head = not (spec.tied and first)  # a tied head on another stage is a copy of the table
        parameters += norm + own_head * table + spec.head_bias * spec.vocab
        lengths = (setting.length,) * setting.batch
        # The chunked loss keeps the gradients of what went into it: the last hidden states and the head.
        activations += (setting.tokens * spec.dim + table) * setting.bytes.dtype.itemsize
        activations += block_bytes(spec.norm, spec.dim, lengths, setting.bytes.dtype) if spec.norm else 0
    return Share(parameters=parameters, activations=activations)
