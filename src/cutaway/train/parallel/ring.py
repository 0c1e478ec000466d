"""Ring all-reduce, on nothing but sending to the right and receiving from the left.

Patarasuk and Yuan 2009; Baidu's for gradients, 2017. The buffer is cut in p chunks.
  reduce-scatter: p - 1 times, send the chunk just added to and add the one that arrives: each ends with one whole sum
  all-gather:     p - 1 times, send the whole chunk just had and keep the one that arrives
On the wire, per process: 2 (p - 1) / p of the buffer, however many processes there are.
Read next: train/parallel/zero.py
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


class Ring:
    """The processes of a group in a circle. `sent`: bytes that this process has put on the wire."""

    def __init__(self, group: dist.ProcessGroup | None = None):
        self.group = group
        self.place, self.size = dist.get_rank(group), dist.get_world_size(group)
        self.sent = 0

    def all_reduce(self, buffer: Tensor) -> Tensor:
        """The sum over all processes, in place; `buffer` is contiguous, of any shape, of one shape everywhere."""
        self.reduce_scatter(buffer)
        return self.all_gather(buffer)

    def reduce_scatter(self, buffer: Tensor) -> Tensor:
        """Leaves the whole sum in this process's chunk, which it returns; the other chunks hold parts of sums."""
        chunks = self.chunks(buffer)
        for turn in range(self.size - 1):
            # Chunk c starts at process c + 1 and comes home to process c with everyone's share in it.
            leaving = chunks[(self.place - turn - 1) % self.size]
            arriving = chunks[(self.place - turn - 2) % self.size]
            arriving += self._shift(leaving, torch.empty_like(arriving))
        return chunks[self.place]

    def all_gather(self, buffer: Tensor) -> Tensor:
        """Fills `buffer`, of which each process brings its own chunk, with everyone's."""
        chunks = self.chunks(buffer)
        for turn in range(self.size - 1):
            leaving, arriving = chunks[(self.place - turn) % self.size], chunks[(self.place - turn - 1) % self.size]
            arriving.copy_(self._shift(leaving, torch.empty_like(arriving)))
        return buffer

    def chunks(self, buffer: Tensor) -> tuple[Tensor, ...]:
        """The buffer in p pieces that differ by at most one number; piece i is process i's own."""
        return buffer.view(-1).tensor_split(self.size)

    def _shift(self, leaving: Tensor, arriving: Tensor) -> Tensor:
        """Sends to the right while it receives from the left: two that both sent first could wait for each other."""
        right, left = (self.place + 1) % self.size, (self.place - 1) % self.size
        self.sent += leaving.nbytes
        works = [
            dist.isend(leaving.contiguous(), group=self.group, group_dst=right),
            dist.irecv(arriving, group=self.group, group_src=left),
        ]
        for work in works:
            if work is not None:
                work.wait()
        return arriving


def bytes_on_the_wire(buffer_bytes: int, processes: int) -> float:
    """What each process sends for one all-reduce of a buffer: 2 (p - 1) / p of it."""
    return 2 * (processes - 1) / processes * buffer_bytes
