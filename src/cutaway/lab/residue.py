"""What a forward pass leaves lying for the backward pass: counted by running it on tensors that have no content.

Every tensor that an operation saves for its gradient is seen (torch's saved-tensor hooks), and each piece of memory
counts once; weights do not count. Fake tensors know shapes and devices only, so that a block of any model takes
milliseconds and no memory.
N tokens, flat · D model dim.   Read next: lab/plan.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from cutaway.nn.block import Block, Norm
from cutaway.nn.context import Context


def saved_bytes(run: Callable[[], Any]) -> int:
    """Bytes of all that `run` saves for a backward pass, weights left out."""
    pieces: dict[int, tuple[int, Tensor]] = {}  # the tensors are held, so that no memory is used twice and counted once

    def keep(tensor: Tensor) -> Tensor:
        if not (isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)):
            memory = tensor.untyped_storage()
            pieces[memory._cdata] = (memory.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = run()
    del held
    return sum(size for size, _ in pieces.values())


def block_bytes(block: Block | Norm, dim: int, lengths: tuple[int, ...], dtype: torch.dtype) -> int:
    """What one block, or a norm, saves of sequences of these lengths; its input counts, its output does not."""
    with FakeTensorMode(), _default(dtype):  # made of it: fake weights cannot be turned into others afterwards
        module = block.build(dim)
        x_ND = torch.empty(sum(lengths), dim, requires_grad=True)
        context = Context.of(lengths)
        return saved_bytes(lambda: module(x_ND, context))


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
