"""Which weights are what: those that decay, those that do not, and the hidden matrices. By structure, not by a list.

Norms and biases are vectors, and do not decay (Loshchilov and Hutter 2017 decay all; GPT-2's and GPT-3's code set the
custom). Tables of rows that are looked up (tokens, positions) decay if asked to. Hidden matrices are the weights of
linear maps inside `blocks`: neither a table nor the head.
Read next: train/optimisers/adamw.py, train/optimisers/muon.py
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from cutaway.nn.embedding import Embedding
from cutaway.nn.linear import Linear
from cutaway.nn.positions import LearnedPositions

Named = dict[str, nn.Parameter]
TABLES = (Embedding, LearnedPositions, nn.Embedding)


@dataclass(frozen=True, kw_only=True)
class Sorted:
    """The weights that ask for a gradient, by name. Every weight is in one of the first three."""

    matrices: Named
    tables: Named
    vectors: Named
    hidden: Named  # of the matrices, those of linear maps inside blocks

    def decayed(self, tables: bool = True) -> Named:
        return self.matrices | (self.tables if tables else {})

    def undecayed(self, tables: bool = True) -> Named:
        return self.vectors | ({} if tables else self.tables)


def sort(module: nn.Module) -> Sorted:
    """Each weight once, also where it is shared, under the name that `module` first has for it."""
    matrices, tables, vectors, hidden = Named(), Named(), Named(), Named()
    for name, weight in module.named_parameters():
        if not weight.requires_grad:
            continue
        owner = module.get_submodule(name.rpartition(".")[0])
        if isinstance(owner, TABLES):
            tables[name] = weight
        elif weight.ndim < 2:
            vectors[name] = weight
        else:
            matrices[name] = weight
            if weight.ndim == 2 and isinstance(owner, (Linear, nn.Linear)) and "blocks" in name.split("."):
                hidden[name] = weight
    return Sorted(matrices=matrices, tables=tables, vectors=vectors, hidden=hidden)
