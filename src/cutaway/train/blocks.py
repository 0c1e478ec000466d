"""The blocks of a model, wherever they stand: the members of every module list that is called `blocks`.

Read next: train/recompute.py, train/parallel/shard.py
"""

from __future__ import annotations

from torch import nn


def lists_of_blocks(module: nn.Module) -> list[nn.ModuleList]:
    """A decoder has one such list, an encoder-decoder two. Taking a block's place in it alters the model."""
    named = [part for name, part in module.named_modules() if name.rpartition(".")[2] == "blocks"]
    return [blocks for blocks in named if isinstance(blocks, nn.ModuleList)]


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """All blocks of a model, in order."""
    return [block for blocks in lists_of_blocks(module) for block in blocks]
