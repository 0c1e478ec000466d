"""Recomputation: blocks forget what they made on the way forward, and make it again when the way back needs it.

Chen et al. 2016 (arXiv 1604.06174), also called activation checkpointing. Of each block only its input is kept; the
backward pass runs the block once more. Memory for activations falls from all blocks' to one block's (and the inputs),
for one forward pass more: about a third of the arithmetic.
By hand on torch's saved-tensor hooks: what a block would save is counted and dropped; the first that is asked for runs
the block again, its random numbers drawn as before, and keeps what it saves this time. torch.utils.checkpoint (without
reentry) does the same and is our twin.
N tokens, flat · D model dim.   Read next: train/fit.py
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.nn.context import Context
from cutaway.train.blocks import lists_of_blocks


def recompute(module: nn.Module, *, every: int = 1) -> nn.Module:
    """Makes every `every`-th block of each of the module's lists named `blocks` recompute; returns the module.

    Call it before the loop, and before weights are spread over processes. Names of weights stay as they are.
    Raises BadInput where there are no blocks.
    """
    if every < 1:
        raise BadInput(f"must be at least 1, is {every}", field="every")
    lists = lists_of_blocks(module)
    if not lists:
        raise BadInput("there are no blocks to recompute", field="module")
    for blocks in lists:
        for place in range(0, len(blocks), every):
            if not isinstance(blocks[place], Recomputed):
                blocks[place] = Recomputed(blocks[place])
    return module


class Recomputed(nn.Module):
    """A block that keeps its input alone. Its parts stand where the block's do, under the same names."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self._whole = (block,)  # in a tuple, so that its weights are not registered twice
        for name, part in block.named_children():
            self.add_module(name, part)
        for name, weight in block.named_parameters(recurse=False):
            self.register_parameter(name, weight)
        self.train(block.training)

    @property
    def spec(self) -> Any:
        return self._whole[0].spec

    def train(self, mode: bool = True) -> Recomputed:
        self._whole[0].train(mode)
        return super().train(mode)

    def forward(self, x_ND: Tensor, context: Context) -> tuple[Tensor, dict[str, Any]]:
        block = self._whole[0]
        if not torch.is_grad_enabled() or context.cache is not None:
            return block(x_ND, context)
        # What a pass computes once for all blocks must be found, or not found, as it was: the same tensors are saved.
        before = replace(context, memo=dict(context.memo))
        again = Again(lambda: block(x_ND, before), x_ND.device)
        with again.forgetting():
            return block(x_ND, context)


class Again:
    """One forward pass that can be made again: what it saves for the backward pass is dropped and found anew."""

    def __init__(self, run: Callable[[], Any], device: torch.device):
        self.run, self.device, self.saved = run, device, 0
        self.random = _random(device)
        self.surroundings = _surroundings(device)
        self.kept: dict[int, Tensor] = {}

    def forgetting(self) -> AbstractContextManager[Any]:
        """Around the first pass: counts what is saved, and keeps nothing of it."""

        def drop(tensor: Tensor) -> int:
            self.saved += 1
            return self.saved - 1

        return torch.autograd.graph.saved_tensors_hooks(drop, self._find)

    def _find(self, number: int) -> Tensor:
        if number not in self.kept:
            self._repeat()
        return self.kept.pop(number)

    def _repeat(self) -> None:
        count = 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal count
            self.kept[count] = tensor.detach()
            count += 1
            return tensor.detach()  # without its history, which would hold this pass's own graph

        with ExitStack() as stack:
            stack.callback(_set_random, self.device, _random(self.device))
            _set_random(self.device, self.random)
            for surrounding in self.surroundings:
                stack.enter_context(surrounding())
            stack.enter_context(torch.enable_grad())
            stack.enter_context(torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor))
            self.run()
        if count != self.saved:
            raise RuntimeError(
                f"run again, a block saved {count} tensors, not {self.saved}: it depends on something else"
            )


def _random(device: torch.device) -> list[Tensor]:
    """Where torch's generators stand: that of the CPU, and the device's own where it has one."""
    if device.type in ("cpu", "meta"):
        return [torch.get_rng_state()]
    place = (device,) if device.type == "cuda" else ()
    return [torch.get_rng_state(), torch.get_device_module(device).get_rng_state(*place)]


def _set_random(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        place = (device,) if device.type == "cuda" else ()
        torch.get_device_module(device).set_rng_state(states[1], *place)


def _surroundings(device: torch.device) -> list[Callable[[], AbstractContextManager[Any]]]:
    """The autocast that is in force now, to be entered again."""
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return []
    dtype = torch.get_autocast_dtype(device.type)
    return [lambda: torch.autocast(device.type, dtype)]
