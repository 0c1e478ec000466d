"""Laws of every mixer, whatever it keeps: how a sequence is cut into passes must not change what comes out.

cached = uncached, packed = alone, rolled back and continued = never gone there. A part that reads more than its tokens
(cross-attention: a memory) is told of it by `tell`.
N tokens, flat · D model dim.   Read next: nn/context.py, nn/cache.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.stream import Stream

Run = Callable[[Tensor, Context], Tensor]  # x (N, D) -> y (N, D)
Tell = Callable[[Context, tuple[int, ...]], Context]  # a pass, and which of the check's sequences are in it

# Float64 throughout; a different order of the same sums moves the last few of its 53 bits.
TOLERANCE = 1e-10


def nothing(context: Context, sequences: tuple[int, ...]) -> Context:
    """A part that reads its tokens alone is told nothing else."""
    return context


def _run(module: nn.Module, tell: Tell, sequences: tuple[int, ...] = (0,)) -> Run:
    return lambda x_ND, context: module(x_ND, tell(context, sequences))[0]


def _cache(streams: tuple[Stream, ...], sequences: int = 1, slack: int = 16) -> ContiguousCache:
    # A capacity of 1 makes the buffers grow and move while they are used.
    return ContiguousCache((streams,), sequences=sequences, dtype=torch.float64, capacity=1, slack=slack)


def _feed(run: Run, x_ND: Tensor, cache: ContiguousCache) -> Tensor:
    """One pass of one sequence; ends as a model would."""
    context = Context.of((x_ND.shape[0],), cache=cache)
    y_ND = run(x_ND, context)
    cache.advance(context.lengths)
    cache.check()
    return y_ND


def _same(got: Tensor, expected: Tensor, what: str) -> None:
    if got.shape != expected.shape:
        raise AssertionError(f"{what}: shape {tuple(got.shape)}, expected {tuple(expected.shape)}")
    error = (got - expected).abs().amax(-1) if got.numel() else got.new_zeros(1)
    if not float(error.max()) <= TOLERANCE:
        token = int((error > TOLERANCE).nonzero()[0]) if bool((error > TOLERANCE).any()) else 0
        raise AssertionError(f"{what}: differs by {float(error.max()):.3g}, first at token {token}")


@torch.no_grad()
def check_steps(
    module: nn.Module, streams: tuple[Stream, ...], x_ND: Tensor, chunks: Sequence[int], tell: Tell = nothing
) -> None:
    """Read in chunks (or token by token) through a cache, a sequence comes out as in one pass without."""
    module = module.double().eval()
    x_ND = x_ND.double()
    run = _run(module, tell)
    full_ND = run(x_ND, Context.of((x_ND.shape[0],)))
    cache = _cache(streams)
    parts = [_feed(run, part, cache) for part in x_ND.split(list(chunks))]
    _same(torch.cat(parts), full_ND, f"read in chunks of {list(chunks)[:8]}")


@torch.no_grad()
def check_packed(
    module: nn.Module, streams: tuple[Stream, ...], sequences: Sequence[Tensor], tell: Tell = nothing
) -> None:
    """Sequences laid end to end come out as each does alone, without a cache and with one, step after step."""
    module = module.double().eval()
    sequences = [x.double() for x in sequences]
    run = _run(module, tell, tuple(range(len(sequences))))
    alone = [_run(module, tell, (index,))(x, Context.of((x.shape[0],))) for index, x in enumerate(sequences)]
    lengths = tuple(x.shape[0] for x in sequences)
    _same(run(torch.cat(sequences), Context.of(lengths)), torch.cat(alone), f"packed {lengths}")
    cache = _cache(streams, len(sequences))
    outputs: list[list[Tensor]] = [[] for _ in sequences]
    rest = list(sequences)
    step = 0
    while any(x.shape[0] for x in rest):
        # A sequence brings 0 to 3 tokens, another number in each pass.
        taken = [x[: (step + index) % 4] for index, x in enumerate(rest)]
        counts = tuple(x.shape[0] for x in taken)
        if sum(counts):
            y_ND = run(torch.cat(taken), Context.of(counts, cache=cache))
            cache.advance(counts)
            cache.check()
            for output, part in zip(outputs, y_ND.split(counts), strict=True):
                output.append(part)
        rest = [x[count:] for x, count in zip(rest, counts, strict=True)]
        step += 1
    for index, (parts, expected) in enumerate(zip(outputs, alone, strict=True)):
        _same(torch.cat(parts), expected, f"sequence {index} of a ragged cached batch")


@torch.no_grad()
def check_rollback(
    module: nn.Module, streams: tuple[Stream, ...], x_ND: Tensor, back: int, astray: int, tell: Tell = nothing
) -> None:
    """Rolled back and continued equals never having gone there: by a snapshot always, by truncation without states."""
    module = module.double().eval()
    x_ND = x_ND.double()
    run = _run(module, tell)
    full_ND = run(x_ND, Context.of((x_ND.shape[0],)))
    elsewhere_ND = x_ND.flip(0)[:astray] + 1.0
    cache = _cache(streams)
    _feed(run, x_ND[:back], cache)
    mark = cache.snapshot(0)
    for row_1D in elsewhere_ND.split(1):
        _feed(run, row_1D, cache)
    cache.restore(0, mark)
    cache.check()
    _same(_feed(run, x_ND[back:], cache), full_ND[back:], f"restored to {back} after {astray} tokens elsewhere")
    if any(stream.per == "sequence" for stream in streams):
        return
    cache = _cache(streams, slack=astray)
    _feed(run, torch.cat([x_ND[:back], elsewhere_ND]), cache)
    cache.truncate(0, back)
    cache.check()
    _same(_feed(run, x_ND[back:], cache), full_ND[back:], f"cut back to {back} from {back + astray} tokens")


@torch.no_grad()
def check_mixer(module: nn.Module, streams: tuple[Stream, ...], dim: int, seed: int = 0, tell: Tell = nothing) -> None:
    """All laws, over several lengths, chunkings and rollback points."""
    make = torch.Generator().manual_seed(seed)
    for length in (1, 2, 5, 13, 23):
        x_ND = torch.randn(length, dim, generator=make, dtype=torch.float64)
        check_steps(module, streams, x_ND, [1] * length, tell)
        check_steps(module, streams, x_ND, [length // 2, length - length // 2], tell)
        check_steps(module, streams, x_ND, [min(3, length), *[1] * (length - min(3, length))], tell)
        for back in {0, length // 2, length - 1}:
            for astray in (1, 4, 9):
                check_rollback(module, streams, x_ND, back, astray, tell)
    sequences = [torch.randn(n, dim, generator=make, dtype=torch.float64) for n in (7, 1, 12, 4)]
    check_packed(module, streams, sequences, tell)
