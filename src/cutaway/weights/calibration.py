"""A decoder's linear maps rounded by GPTQ, a block at a time, on what texts bring to each.

Frantar et al. 2022 (arXiv 2210.17323), section 4: block after block, each calibrated on what the rounded blocks before
it hand over, so that it makes up for their errors as well. The token table, and a head of its own, are rounded plainly,
the table to 8 bits (weights/precision.py).
N tokens of all texts, flat · D model dim · C columns (inputs) of a map.   Read next: ops/calibrated/gptq.py
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.models.decoder import DecoderModel
from cutaway.nn.context import Context
from cutaway.nn.linear import Linear
from cutaway.nn.quantised import QuantisedLinear
from cutaway.ops.blocks.absmax import pack
from cutaway.ops.blocks.format import PLAIN
from cutaway.ops.blocks.scheme import Absmax
from cutaway.ops.calibrated.gptq import gptq
from cutaway.ops.packed import Packed
from cutaway.weights.precision import put_in


def calibrate(module: DecoderModel, ids_BT: Tensor, scheme: Absmax) -> Iterator[int]:
    """Rounds the maps of `module`, in place, on texts (B, T); yields the number of each block that is done.

    A few thousand tokens like those that the model is for are enough. Raises BadInput for no tokens.
    """
    if ids_BT.ndim != 2 or not ids_BT.numel():
        raise BadInput(f"must be (texts, tokens), has shape {tuple(ids_BT.shape)}", field="ids_BT")
    put_in(module, PLAIN["f32"])
    context = Context.of((ids_BT.shape[1],) * len(ids_BT), device=ids_BT.device)
    x_ND = _entering(module, ids_BT.flatten(), context)
    for index, block in enumerate(module.blocks):
        with torch.no_grad():
            products = _products(block, x_ND, context.at(index))
            for name, hessian_CC in products.items():
                part = block.get_submodule(name)
                assert isinstance(part, Linear)
                format = scheme.format(part.weight.shape[1])
                blocks = pack(gptq(part.weight, hessian_CC, scheme), format)
                made = QuantisedLinear(Packed(blocks=blocks, format=format))
                made.bias = part.bias
                block.set_submodule(name, made)
            x_ND, _ = block(x_ND, context.at(index))
        yield index
    _round_the_rest(module, scheme)


def _entering(module: DecoderModel, ids_N: Tensor, context: Context) -> Tensor:
    """What the first block is given."""
    seen: list[Tensor] = []
    hook = module.blocks[0].register_forward_pre_hook(lambda block, told: seen.append(told[0]))
    try:
        with torch.no_grad():
            module.hidden(ids_N, context)
    finally:
        hook.remove()
    return seen[0]


def _products(block: nn.Module, x_ND: Tensor, context: Context) -> dict[str, Tensor]:
    """X^T X of the inputs of each linear map of a block, by its name; zeros of one that nothing reached."""
    maps = {name: part for name, part in block.named_modules() if isinstance(part, Linear)}
    products = {name: x_ND.new_zeros(part.weight.shape[1], part.weight.shape[1]) for name, part in maps.items()}

    def watch(name: str):
        def add(part: nn.Module, told: tuple[Tensor, ...]) -> None:
            x_NC = told[0].flatten(0, -2)
            products[name].addmm_(x_NC.T, x_NC)

        return add

    hooks = [part.register_forward_pre_hook(watch(name)) for name, part in maps.items()]
    try:
        block(x_ND, context)
    finally:
        for hook in hooks:
            hook.remove()
    return products


def _round_the_rest(module: DecoderModel, scheme: Absmax) -> None:
    """The token table and the head: what stands outside the blocks."""
    blocks, module.blocks = module.blocks, nn.ModuleList()
    try:
        put_in(module, scheme)
    finally:
        module.blocks = blocks
