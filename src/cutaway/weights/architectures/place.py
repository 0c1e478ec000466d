"""Where a checkpoint keeps one of our parameters, and in which form it lies there.

The forms that occur: GPT's Conv1D stores matrices transposed, (inputs, outputs); GPT-2 keeps query, key and value as
one matrix, Qwen3-Next a head's query and its gate by turns; llama.cpp reorders the rows of Llama's queries and keys so
that the two dims that rotate together lie next to each other; it adds the 1 to Gemma's norm weights; Marian's bias of
the logits is a matrix of one row; transformers 5 can stack a layer's experts in one tensor. Each is undone on reading,
and all but the last redone on writing.

R rows (outputs) · C columns (inputs).   Read next: weights/architectures/gpt2.py
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

NUMBER = re.compile(r"\.(\d+)(?=\.)")


@dataclass(frozen=True, kw_only=True)
class Place:
    """`part`: which of how many equal parts, along the outputs; with `turn` they take turns, so many rows of each at a
    time. `transposed`: matrices are (inputs, outputs).
    `paired`: the rows of each head are in the order of interleaved rotation. `added`: what the file adds to the weight.
    `lone`: the file holds our vector as a matrix of one row.
    `stacked`: the file holds the matrices of all experts of a layer as one tensor, in which ours has number `row`.
    """

    name: str
    part: tuple[int, int] = (0, 1)
    transposed: bool = False
    paired: bool = False
    added: float = 0.0
    lone: bool = False
    stacked: bool = False
    row: int = 0
    turn: int | None = None

    def shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """The shape in the file of a parameter that has shape `ours` here; of a stacked one, that of one row."""
        if self.lone:
            return (1, *ours)
        rows, *columns = ours
        held = (rows * self.part[1], *columns)
        return held[::-1] if self.transposed else held

    def take(self, held: Tensor, head_dim: int) -> Tensor:
        """Our parameter, from what the file holds (a view of it where nothing has to move)."""
        held = held[self.row] if self.stacked else held[0] if self.lone else held
        held = held.T if self.transposed and held.ndim == 2 else held
        index, parts = self.part
        if self.turn is not None:
            ours = held.unflatten(0, (-1, parts, self.turn))[:, index].flatten(0, 1)
        else:
            ours = held.unflatten(0, (parts, -1))[index] if parts > 1 else held
        if self.paired:
            ours = ours[halves(ours.shape[0], head_dim).to(ours.device)]
        return ours - self.added if self.added else ours

    def put(self, ours: list[Tensor], head_dim: int) -> Tensor:
        """What the file holds, from our parameters, all parts in their order."""
        assert not self.stacked, "experts are written one by one, as they are published"
        if self.turn is not None:
            held = torch.stack([one.unflatten(0, (-1, self.turn)) for one in ours], 1).flatten(0, 2)
        else:
            held = ours[0] if len(ours) == 1 else torch.cat(ours)
        if self.paired:
            held = held[pairs(held.shape[0], head_dim).to(held.device)]
        if self.added:
            held = held + self.added
        if self.lone:
            return held[None]
        return held.T if self.transposed and held.ndim == 2 else held


Names = Mapping[str, "str | Place"]


def place_of(names: Names, ours: str) -> Place:
    """The place of a parameter such as `blocks.3.mixer.query.weight`. Raises KeyError for one that has none.

    `names` maps modules, with `*` for numbers: "blocks.*.mixer.query" to "model.layers.*.self_attn.q_proj", behind
    which the file says "weight" or "bias" as we do; or whole parameters, whose name in the file is all there is. A name
    with its number ("blocks.3.mixer.out") goes before the one for all.
    """
    numbers, general = NUMBER.findall(ours), NUMBER.sub(".*", ours)
    (module, _, kind), one = general.rpartition("."), ours.rpartition(".")[0]
    if general in names:
        found, end = names[general], ""
    else:
        found, end = names[one if one in names else module], f".{kind}"
    place = Place(name=found) if isinstance(found, str) else found
    name = place.name
    for number in numbers:
        name = name.replace("*", number, 1)
    return replace(place, name=name + end, row=int(numbers[-1]) if place.stacked else 0)


def pairs(rows: int, head_dim: int) -> Tensor:
    """Indices (R,) that bring each head's rows from halves (0 1 2 | 3 4 5) to pairs (0 3 1 4 2 5)."""
    return torch.arange(rows).view(-1, 2, head_dim // 2).transpose(1, 2).reshape(-1)


def halves(rows: int, head_dim: int) -> Tensor:
    """Indices (R,) that undo `pairs`."""
    return torch.arange(rows).view(-1, head_dim // 2, 2).transpose(1, 2).reshape(-1)
