"""What the tests of many processes train: a small decoder, an objective that calls more than `forward`, batches."""

from __future__ import annotations

import torch
from torch import nn

from cutaway.data.batch import IGNORE, Batch
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.norms import LayerNorm, RMSNorm
from cutaway.nn.positions import Learned, Rope
from cutaway.train.fit import fit
from cutaway.train.objectives.causal import Causal
from cutaway.train.optimisers.adamw import AdamW


def decoder(tied: bool = True, head_norm: bool = False) -> nn.Module:
    """Biases, norms, grouped heads, both feeds; in float64, so that only a wrong equation can differ."""
    torch.manual_seed(5)
    mixer = GroupedQuery(
        heads=4, kv_heads=2, head_dim=4, rope=Rope(width=4), bias=True, out_bias=True,
        head_norm=RMSNorm() if head_norm else None,
    )  # fmt: skip
    one = Block(mixer=mixer, feed=Gated(hidden=12), before=RMSNorm())
    other = Block(mixer=mixer, feed=Plain(hidden=12), before=RMSNorm(), after=LayerNorm())
    spec = Decoder(
        vocab=23, dim=8, blocks=(one, other) * 2, length=16, norm=RMSNorm(), positions=Learned(length=16), tied=tied
    )
    module = spec.build().double()
    with torch.no_grad():
        for weight in module.parameters():  # gradients of every weight of a size worth comparing
            weight.add_(0.2 * torch.randn_like(weight))
    return module


def next_token() -> Causal:
    """It calls `hidden`, not `forward`, and takes the head's weights in its own autograd function (z-loss: chunked)."""
    return Causal(z=1e-3)


def batch(seed: int, lengths: tuple[int, ...] = (5, 7)) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    ids_N = torch.randint(23, (sum(lengths),), generator=generator)
    targets_N = torch.randint(23, (sum(lengths),), generator=generator)
    targets_N[::4] = IGNORE
    return Batch(ids_N=ids_N, targets_N=targets_N, lengths=lengths)


def joined(batches: list[Batch]) -> Batch:
    """The batches of all processes as one."""
    return Batch(
        ids_N=torch.cat([one.ids_N for one in batches]),
        targets_N=torch.cat([one.targets_N for one in batches]),
        lengths=tuple(length for one in batches for length in one.lengths),
    )


class Still:
    """An optimiser that moves nothing: what it leaves behind are the gradients as `fit` made them."""

    def step(self) -> None: ...
    def zero_grad(self) -> None: ...


def taught(module: nn.Module, whole: Batch, objective: Causal | None = None) -> dict:
    """What one process makes of one batch: gradients, and the weights after a clipped step."""
    objective = objective or next_token()
    step = next(fit(module, objective, [whole], Still(), steps=1, clip=None))
    gradients = {name: weight.grad.clone() for name, weight in module.named_parameters()}
    clipped = next(fit(module, objective, [whole], AdamW(rate=0.01).build(module), steps=1, clip=0.1))
    weights = {name: weight.detach() for name, weight in module.named_parameters()}
    return {"loss": step.loss, "norm": clipped.norm, "count": step.count, "gradients": gradients, "weights": weights}


def near(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """By name, to the roundings of float64 sums in another order; a wrong scale would be off by half or twice."""
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(
            tensor, theirs[name], rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
        )
