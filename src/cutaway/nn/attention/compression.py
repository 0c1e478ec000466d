"""Compression: every few tokens, one key and one value that stand for the block of tokens that ends there.

NSA (arXiv 2502.11089), equation 7.   k~_i = phi(k_(i d + 1), ..., k_(i d + l)),   phi an MLP with positions within
  phi(k) = W_down gelu(W_up flatten(k + p)),   p one learned vector for each place in a block
Departures: the paper does not say how deep phi is, nor that all kv heads share it. Blocks are counted by where they
end, row r at token (r + 1) d, so that it is known when a row is written; the first l/d - 1 rows would begin before the
sequence: they are kept as zeros and never read.
N tokens, flat · S rows that are held · C compressed rows · B place in a block · G kv head · K head dim
Read next: nn/attention/selection.py, nn/stream.py
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cutaway.nn.context import Context
from cutaway.nn.linear import Linear
from cutaway.nn.stream import Stream

RAW = ("compression_key", "compression_value")  # rows that blocks yet to end are made of
MADE = ("compressed_key", "compressed_value")


def streams(shape: tuple[int, ...], block: int, stride: int) -> tuple[Stream, ...]:
    """The last rows, of which the next block is made, and one made row every `stride` tokens."""
    raw = tuple(Stream(name, shape, last=block) for name in RAW)
    return raw + tuple(Stream(name, shape, every=stride) for name in MADE)


def whole(tokens: int, block: int, stride: int) -> int:
    """Blocks that lie within the first `tokens` tokens."""
    return max(0, tokens // stride - (block // stride - 1))


class Compression(nn.Module):
    """Blocks (C, B, G, K) -> rows (C, G, K), each kv head on its own by the same map."""

    def __init__(self, block: int, head_dim: int, hidden: int):
        super().__init__()
        self.positions = nn.Parameter(torch.empty(block, head_dim).normal_(std=0.02))
        self.up = Linear(block * head_dim, hidden)  # the positions, flattened, act as its bias
        self.down = Linear(hidden, head_dim)

    def forward(self, rows_CBGK: Tensor, context: Context) -> Tensor:
        placed_CGBK = rows_CBGK.transpose(1, 2) + self.positions
        return self.down(context.forms.activate(self.up(placed_CGBK.flatten(-2), context), "gelu_tanh"), context)


def compressed(
    maps: tuple[Compression, Compression], rows: tuple[Tensor, Tensor], context: Context, block: int, stride: int
) -> tuple[list[tuple[Tensor, ...]], tuple[int, ...]]:
    """Keeps raw rows (N, G, K) of keys and values, makes those of the blocks that end in this pass.

    Returns for keys and for values the whole blocks' rows (C, G, K) of each sequence, and the tokens of each.
    """
    held = context.cache.lengths if context.cache is not None else (0,) * len(context.lengths)
    ends = tuple(old + new for old, new in zip(held, context.lengths, strict=True))
    seen, see = context.extend(window=block, **dict(zip(RAW, rows, strict=True)))
    closing = tuple(end // stride - old // stride for old, end in zip(held, ends, strict=True))
    made = []
    for name, phi, rows_SGK in zip(MADE, maps, seen, strict=True):
        parts = [
            _close(phi, rows_sGK.to(rows[0].dtype), context, old, end, block, stride)
            for rows_sGK, old, end in zip(rows_SGK.split(see.keys), held, ends, strict=True)
        ]
        if context.cache is not None:
            context.cache.append(context.layer, name, torch.cat(parts), closing)
            rows_CGK, counts = context.cache.read(context.layer, name)
            parts = rows_CGK.split(counts)
        made.append(tuple(part[block // stride - 1 :] for part in parts))
    return made, ends


def _close(phi: Compression, rows_SGK: Tensor, context: Context, old: int, end: int, block: int, stride: int) -> Tensor:
    """Rows (C, G, K) of the blocks of one sequence that end among tokens old .. end - 1, zeros for those not whole.
    `rows_SGK`: its last ones, up to `end`."""
    numbers = range(old // stride, end // stride)
    zeros = sum((number + 1) * stride < block for number in numbers)
    starts = [(number + 1) * stride - block - (end - rows_SGK.shape[0]) for number in numbers[zeros:]]
    none_CGK = rows_SGK.new_zeros(zeros, *rows_SGK.shape[1:])
    if not starts:
        return none_CGK
    index_CB = torch.tensor(starts, device=rows_SGK.device)[:, None] + torch.arange(block, device=rows_SGK.device)
    return torch.cat([none_CGK, phi(rows_SGK[index_CB], context)])
