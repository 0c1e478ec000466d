"""How far the kernels reach into a decoder: which of its parts run as lists, and whether a pass asks for lists at all.

Read next: infer/kernel_plan.py
"""

from __future__ import annotations

import ctypes
from dataclasses import replace

from torch import nn

from cutaway.infer import kernel_caches, kernel_experts, kernel_grouped, kernel_latent, kernel_weights
from cutaway.infer.kernel_caches import Kept
from cutaway.infer.kernel_weights import multiplies
from cutaway.models.decoder import DecoderModel
from cutaway.nn.attention.latent import LatentAttention
from cutaway.nn.block import BlockModule
from cutaway.nn.embedding import Embedding
from cutaway.nn.experts.mixture import ExpertsFeed
from cutaway.nn.feedforward import GatedFeed, PlainFeed
from cutaway.nn.quantised import QuantisedEmbedding
from cutaway.ops.cpu.build import library
from cutaway.ops.cpu.gate import ACTIVATIONS
from cutaway.ops.cpu.multiply import multiply_kernels, multiply_kernels_int8
from cutaway.ops.forms import FAST, Forms


def lists_mixer(mixer: nn.Module) -> bool:
    """Whether kernels do all that a mixer does."""
    if type(mixer) is LatentAttention:
        return kernel_latent.lists(mixer)
    return kernel_grouped.lists(mixer)


def lists_feed(feed: nn.Module) -> bool:
    """Whether kernels do all that a feed does."""
    if type(feed) is ExpertsFeed:
        return kernel_experts.lists(feed)
    if type(feed) is GatedFeed:
        return multiplies((feed.gate, feed.up, feed.down)) and feed.spec.activation in ACTIVATIONS
    return type(feed) is PlainFeed and multiplies((feed.up, feed.down)) and feed.spec.activation in ACTIVATIONS


def listed(module: DecoderModel) -> int:
    """How many mixers and feeds of a decoder run as kernels."""
    blocks = [block for block in module.blocks if isinstance(block, BlockModule)]
    return sum(lists_mixer(block.mixer) + lists_feed(block.feed) for block in blocks)


def readable(module: DecoderModel) -> bool:
    """Whether all that is not packed is in fp32, fp16 or bfloat16 on the CPU, as kernels read it; in one of them."""
    tables = [table.like for table in module.modules() if isinstance(table, QuantisedEmbedding)]
    plain = [tensor for tensor in (*module.parameters(), *tables) if tensor.is_floating_point()]
    known = isinstance(module.embedding, Embedding | QuantisedEmbedding)
    kinds = {(tensor.dtype, tensor.device.type) for tensor in plain}
    return known and len(kinds) == 1 and kinds <= {(dtype, "cpu") for dtype in kernel_weights.FORMATS}


def asked(module: DecoderModel, forms: Forms) -> bool | None:
    """Whether passes over a module run as lists, with activations in int8 (True) or fp32 (False). None, for torch
    alone, where `forms` leaves its products to something else or asks for another form of anything (a reader's own runs
    as it is), where no part of it is listed, or where there are no kernels."""
    kinds = {multiply_kernels: False, multiply_kernels_int8: True}
    usual = replace(FAST, multiply=forms.multiply, narrow=forms.narrow, absorb=forms.absorb)
    if forms.multiply not in kinds or forms != usual or not readable(module):
        return None
    return kinds[forms.multiply] if listed(module) and library() is not None else None


def orderly(module: DecoderModel) -> bool:
    """Whether a row's sums can be made of one order, whoever stands beside it (`kernel_steps.STEADY`): not those of an
    expert, who is given as many rows as chose it."""
    return not any(type(part) is ExpertsFeed and lists_feed(part) for part in module.modules())


def rooms(module: DecoderModel) -> tuple[ctypes.Array, list[Kept | None]]:
    """Memory in which kernels are told of all layers' caches, and each layer's place in it; None where torch runs the
    mixer. Whose memory it is can be copied as a whole to another's of the same module."""
    mixers = [block.mixer if isinstance(block, BlockModule) else block for block in module.blocks]
    kinds = [type(kernel_caches.room(mixer)) if lists_mixer(mixer) else None for mixer in mixers]
    whole = (ctypes.c_char * sum(ctypes.sizeof(kind) for kind in kinds if kind is not None))()
    places: list[Kept | None] = []
    start = 0
    for kind in kinds:
        places.append(None if kind is None else kind.from_buffer(whole, start))
        start += 0 if kind is None else ctypes.sizeof(kind)
    return whole, places
