"""A batch cut in pieces, one for each processor core, each going through the whole model in a thread of its own.

Cores that share one operation wait for each other at its end, hundreds of times a step; for a small model that takes
as long as the arithmetic. Pieces meet twice a step only: when their losses, and when their gradients are added.
    gradient = sum over pieces of d(total of the piece) / d(weights), always added in the same order
torch lets go of Python's lock in every operation, so that threads are enough.   Read next: train/fit.py
"""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.train.loss import Loss, Objective


class OnCores:
    """An objective whose batches are cut in `count` pieces that run at once, for a model on the CPU.

    Not for models with dropout: threads would draw from one generator in whatever order they come.
    Raises BadInput for an objective that looks across items.
    """

    splits = True

    def __init__(self, objective: Objective, count: int):
        if not objective.splits:
            raise BadInput(f"{type(objective).__name__} looks across items: it cannot be cut", field="objective")
        if count < 1:
            raise BadInput(f"must be at least 1, is {count}", field="count")
        self.objective, self.count = objective, count
        self._pool = ThreadPoolExecutor(count, "core", initializer=torch.set_num_threads, initargs=(1,))

    def __call__(self, module: nn.Module, batch: Batch) -> Loss:
        pieces = cut(batch, self.count)
        if len(pieces) == 1:
            return self.objective(module, batch)
        modes = Modes.now()

        def ahead(piece: Batch) -> Loss:
            with modes.entered():
                return self.objective(module, piece)

        losses = list(self._pool.map(ahead, pieces))
        total = torch.stack([loss.total.detach() for loss in losses]).sum()
        if modes.gradients:
            weights = [weight for weight in module.parameters() if weight.requires_grad]
            total = _Joined.apply(total, self._pool, losses, *weights)
        metrics = {name: sum(loss.metrics[name] for loss in losses) for name in losses[0].metrics}
        return Loss(total=total, count=sum(loss.count for loss in losses), metrics=metrics)  # type: ignore[arg-type]


class _Joined(torch.autograd.Function):
    """The sum of the pieces' losses, whose gradient is worked out piece by piece at once."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, pool: ThreadPoolExecutor, losses: list[Loss], *weights: Tensor) -> Tensor:
        ctx.pool, ctx.losses, ctx.weights = pool, losses, weights
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        def back(loss: Loss) -> Sequence[Tensor | None]:
            return torch.autograd.grad(loss.total, ctx.weights, gradient, allow_unused=True)

        first, *others = ctx.pool.map(back, ctx.losses)
        whole = list(first)
        for other in others:
            both = [(one, two) for one, two in zip(whole, other, strict=True) if one is not None and two is not None]
            torch._foreach_add_([one for one, _ in both], [two for _, two in both])
            whole = [two if one is None else one for one, two in zip(whole, other, strict=True)]
        return None, None, None, *whole


@dataclass(frozen=True, kw_only=True)
class Modes:
    """What torch keeps for each thread, and a new one has to be told: whether to keep a graph, and the precision."""

    gradients: bool
    narrow: bool
    dtype: torch.dtype

    @classmethod
    def now(cls) -> Modes:
        narrow, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
        return cls(gradients=torch.is_grad_enabled(), narrow=narrow, dtype=dtype)

    @contextmanager
    def entered(self) -> Iterator[None]:
        with torch.set_grad_enabled(self.gradients), torch.autocast("cpu", self.dtype, enabled=self.narrow):
            yield


def cut(batch: Batch, count: int) -> list[Batch]:
    """`batch` in at most `count` pieces of whole sequences, about as many tokens each."""
    lengths = batch.lengths
    if batch.source is not None:
        lengths = tuple(one + other for one, other in zip(lengths, batch.source.lengths, strict=True))
    # A sequence belongs to the piece in which its middle lies.
    middles = [end - length / 2 for end, length in zip(accumulate(lengths), lengths, strict=True)]
    piece = [int(middle * count / max(batch.tokens, 1)) for middle in middles]
    edges = [index for index in range(1, len(piece)) if piece[index] != piece[index - 1]]
    return [_slice(batch, first, last) for first, last in pairwise([0, *edges, len(lengths)])]


def _slice(batch: Batch, first: int, last: int) -> Batch:
    """Sequences `first` to `last`."""
    start, stop = sum(batch.lengths[:first]), sum(batch.lengths[:last])
    flat = {name: getattr(batch, name) for name in ("ids_N", "targets_N", "kinds_N")}
    return Batch(
        **{name: held[start:stop] for name, held in flat.items() if held is not None},
        lengths=batch.lengths[first:last],
        prefix=None if batch.prefix is None else batch.prefix[first:last],
        labels_B=None if batch.labels_B is None else batch.labels_B[first:last],
        source=None if batch.source is None else _slice(batch.source, first, last),
    )


@contextmanager
def one_core(whether: bool = True) -> Iterator[None]:
    """While this lasts, the operations of this thread are not shared among cores, if `whether`.

    Those of a small model are over before another core has begun; it then turns in place, waiting for more, and takes
    the time from the threads that work.
    """
    before = torch.get_num_threads()
    if whether:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if whether:
            torch.set_num_threads(before)
