"""Poolings: one vector for each sequence, from an encoder's hidden states.

Sentence-BERT (Reimers and Gurevych 2019, arXiv 1908.10084), section 3: the mean of all tokens; the first token's state;
the largest of each feature. SimCSE (arXiv 2104.08821), section 6.3 compares the first with what BERT's pooler makes of
it. Gradients flow through, so that contrastive training compares the very vectors that are embedded.
N tokens, flat · B sequences · T tokens of one · D model dim.   Read next: models/encoder.py, infer/embedding.py
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.models.encoder import EncoderModel
from cutaway.nn.context import Context


def _mean(module: EncoderModel, x_ND: Tensor, context: Context) -> Tensor:
    return torch.stack([x_TD.mean(0) for x_TD in x_ND.split(context.lengths)])


def _first(module: EncoderModel, x_ND: Tensor, context: Context) -> Tensor:
    return torch.stack([x_TD[0] for x_TD in x_ND.split(context.lengths)])


def _largest(module: EncoderModel, x_ND: Tensor, context: Context) -> Tensor:
    return torch.stack([x_TD.amax(0) for x_TD in x_ND.split(context.lengths)])


def _pooler(module: EncoderModel, x_ND: Tensor, context: Context) -> Tensor:
    return module.pooled(x_ND, context)


POOLINGS: dict[str, Callable[[EncoderModel, Tensor, Context], Tensor]] = {
    "mean": _mean,
    "cls": _first,
    "max": _largest,
    "pooler": _pooler,
}


def pooling_name(name: str) -> str:
    """The name itself. Raises BadInput, with the nearest, for one that is no key of `POOLINGS`."""
    if name not in POOLINGS:
        raise BadInput(f'no pooling is called "{name}"{did_you_mean(str(name), POOLINGS)}', field="pooling")
    return name


def pool(module: EncoderModel, x_ND: Tensor, context: Context, by: str = "mean", *, unit: bool = True) -> Tensor:
    """One vector (B, D) for each sequence; `by` is a key of `POOLINGS`, `unit` brings them to length 1.

    Raises BadInput for a sequence without tokens, and where "pooler" is asked of an encoder that has none.
    """
    if 0 in context.lengths:
        raise BadInput("a sequence without tokens has no vector", field="lengths")
    if not context.lengths:
        return x_ND.new_zeros(0, x_ND.shape[-1])
    made_BD = POOLINGS[pooling_name(by)](module, x_ND, context)
    return F.normalize(made_BD, dim=-1) if unit else made_BD
