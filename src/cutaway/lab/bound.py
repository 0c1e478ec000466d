"""What bounds the speed of decoding: the bytes a token has to read, and the time that its products take by themselves.

One token is multiplied with every matrix once, so   tokens per second <= bandwidth / bytes read per token.   Products
that reach the bandwidth would take bytes / bandwidth seconds; what they take longer is arithmetic and unpacking; what a
token takes beyond its products is everything else: norms, rotations, attention, and starting each small operation.
N tokens, flat (one here) · C inputs of a matrix.   Read next: lab/tensors.py, nn/quantised.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cutaway.infer.language import Language
from cutaway.lab.tensors import held
from cutaway.nn.context import Context
from cutaway.nn.embedding import Embedding
from cutaway.nn.linear import Linear
from cutaway.nn.positions import LearnedPositions
from cutaway.nn.quantised import QuantisedEmbedding, QuantisedLinear
from cutaway.ops.packed import Packed

Table = Embedding | QuantisedEmbedding | LearnedPositions


@dataclass(frozen=True, kw_only=True)
class Bound:
    """`weights`, `cache`: bytes read per token. `bandwidth` in bytes per second. `seconds` is one token as it was
    measured while answering, `products` its matrix products alone."""

    weights: int
    cache: int
    bandwidth: float
    seconds: float
    products: float

    @property
    def roof(self) -> float:
        """Tokens per second at which memory could deliver the bytes."""
        return self.bandwidth / (self.weights + self.cache)

    @property
    def rate(self) -> float:
        return 1 / self.seconds

    @property
    def rest(self) -> float:
        """Seconds of a token that are not matrix products."""
        return max(0.0, self.seconds - self.products)


def traffic(module: nn.Module) -> int:
    """Bytes of weights that a model reads for one token: all once, of a table that is only looked up one row.

    Of a packed matrix it is the repacked copy that is read, once there is one.
    """
    tied = getattr(module, "head", None) is None  # then the token table is the head too, and read as a whole
    total = 0
    for part in module.modules():
        if isinstance(part, Packed):
            continue
        looked_up = isinstance(part, LearnedPositions) or (isinstance(part, Table) and not tied)
        for tensor in held(part):
            total += tensor.bytes // tensor.shape[0] if looked_up else tensor.bytes
        packed = getattr(part, "packed", None)
        if isinstance(packed, Packed) and not looked_up:
            copy = next((one for one in packed.copies.values() if one is not None), None)
            tensors = [] if copy is None else [one for one in vars(copy).values() if isinstance(one, Tensor)]
            total += sum(one.nbytes for one in tensors) - packed.blocks.nbytes if tensors else 0
    return total


@torch.inference_mode()
def product_seconds(language: Language, rounds: int = 5) -> float:
    """Seconds that all matrix products of one token take, one after the other; the best of some rounds.

    The first round is not counted: it may repack the weights.
    """
    context = Context.of((1,), device=language.device, forms=language.forms)
    calls = list(_products(language, context))
    best = float("inf")
    for count in range(rounds + 1):
        start = time.perf_counter()
        for call in calls:
            call()
        if count:
            best = min(best, time.perf_counter() - start)
    return best


def _products(language: Language, context: Context) -> list[Callable[[], Tensor]]:
    """One call for each matrix that a token is multiplied with, in the model's order."""
    calls: list[Callable[[], Tensor]] = []
    tables: list[Callable[[], Tensor]] = []
    inputs: dict[int, Tensor] = {}
    for part in language.module.modules():
        if not isinstance(part, (Linear, QuantisedLinear, Embedding, QuantisedEmbedding)):
            continue
        columns = held(part)[0].shape[1]
        x_1C = inputs.setdefault(columns, torch.ones(1, columns, dtype=language.dtype, device=language.device))
        if isinstance(part, (Linear, QuantisedLinear)):
            calls.append(lambda part=part, x_1C=x_1C: part(x_1C, context))
        elif language.spec.tied:
            tables.append(lambda part=part, x_1C=x_1C: part.logits(x_1C, context))
    return calls + tables
