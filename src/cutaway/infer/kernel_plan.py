"""A decoder's forward pass over a few tokens as a list of kernels, made from the module once for each number of tokens.

What no kernel does (a recurrent state, sinks) cuts the list: torch runs that part on the
same residual, and the list goes on behind it. So a plan is a row of lists and calls.
N tokens of one sequence · X of them whose logits are asked for · D model dim · F hidden dim · V vocabulary.
Read next: ops/cpu/list.py, infer/kernel_steps.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.infer import kernel_caches, kernel_experts, kernel_latent, kernel_weights
from cutaway.infer.kernel_caches import Kept
from cutaway.infer.kernel_latent import LatentCache
from cutaway.infer.kernel_weights import multiplies
from cutaway.models.decoder import DecoderModel
from cutaway.nn.attention.grouped import GroupedQueryAttention
from cutaway.nn.attention.latent import LatentAttention
from cutaway.nn.block import BlockModule, Norms
from cutaway.nn.context import Context
from cutaway.nn.embedding import Embedding
from cutaway.nn.experts.mixture import ExpertsFeed
from cutaway.nn.feedforward import GatedFeed, PlainFeed
from cutaway.nn.norms import LayerNormModule, RMSNormModule
from cutaway.nn.positions import Rope
from cutaway.nn.quantised import Fan, QuantisedEmbedding
from cutaway.nn.rope_scaling import DynamicNtk
from cutaway.ops import rope as turning
from cutaway.ops.cpu.attention import Attend, Parts, spans_for
from cutaway.ops.cpu.cache import LANES, WIDEST, Cache
from cutaway.ops.cpu.embed import Embed, number
from cutaway.ops.cpu.gate import ACTIVATIONS, NOTHING, Gate
from cutaway.ops.cpu.list import Laid, Operations, Output, Product, address, pointer
from cutaway.ops.cpu.norm import Norm
from cutaway.ops.cpu.plain import Stamp, stamp
from cutaway.ops.cpu.rotate import Rotate

Call = Callable[[Tensor, Context], Tensor]  # what torch makes of the residual (N, D)
Weights = tuple[dict[str, Any], str]  # where a module holds a tensor that a list points into


def room_for(mixer: nn.Module) -> Kept | None:
    """Where kernels are told of a mixer's cache; None where torch runs it."""
    return kernel_caches.room(mixer) if lists_mixer(mixer) else None


def lists_mixer(mixer: nn.Module) -> bool:
    """Whether kernels do all that a mixer does."""
    if type(mixer) is LatentAttention:
        return kernel_latent.lists(mixer)
    if type(mixer) is not GroupedQueryAttention:
        return False
    spec = mixer.spec
    turns = spec.rope is None or not isinstance(spec.rope.scaling, DynamicNtk)
    fits = spec.head_dim % LANES == 0 and spec.head_dim <= WIDEST
    return (
        turns
        and fits
        and not spec.sinks
        and not getattr(spec, "gated", False)
        and multiplies((mixer.query, mixer.key, mixer.value, mixer.out))
    )


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


class Plan:
    """The lists and calls of a pass in which one sequence brings `rows` tokens and asks for the logits of the last
    `last`. `caches`: what kernels are told of each layer's cache. `room`: tokens that the sequence may reach."""

    def __init__(
        self, module: DecoderModel, caches: Sequence[Kept | None], *, rows: int, last: int, room: int, int8: bool
    ):
        self.module, self.rows, self.last, self.room, self.int8 = module, rows, last, room, int8
        kinds = (one.dtype for one in module.parameters() if one.is_floating_point())
        self.dtype = next(kinds, torch.float32)  # what torch computes in
        self.segments: list[Operations | Call] = []
        self.weights: list[Weights] = []
        self.places: dict[int | None, tuple[Tensor, Tensor]] = {}  # by window: each row's key, and where its keys end
        self._memory: dict[tuple[str, int], Any] = {}
        self._tables: dict[Rope, tuple[Tensor, Tensor]] = {}
        self._copies: list[Tensor] = []  # of weights that lists point to
        self.ids, self.positions, self.slots = (torch.zeros(rows, dtype=torch.int32) for _ in range(3))
        self.chosen = torch.arange(rows - last, rows, dtype=torch.int32)
        self.x_ND = torch.zeros(rows, module.spec.dim)
        self.product_of_head: Product | None = None
        self._embed()
        for layer, (block, cache) in enumerate(zip(module.blocks, caches, strict=True)):
            assert isinstance(block, BlockModule)
            if isinstance(cache, LatentCache):
                self._latent(block, cache)
            elif cache is not None:
                self._mixer(block, cache)
            else:
                self._torch(layer, block.mixer, block.mixer_norms)
            if lists_feed(block.feed):
                self._feed(block)
            else:
                self._torch(layer, block.feed, block.feed_norms)
        if last:
            self._head()
        self.stamps = self.where()

    @property
    def names(self) -> tuple[str, ...]:
        """What runs, in its order: kernels by their names, "torch" for what torch does."""
        found: list[str] = []
        for segment in self.segments:
            found += segment.names if isinstance(segment, Operations) else ["torch"]
        return tuple(found)

    def where(self) -> list[Stamp]:
        """Where all weights lie that lists were made of, and how often they were written to: where that is no longer
        so, another plan is to be made."""
        return [stamp(held[name]) for held, name in self.weights]

    # ---- what a part becomes

    def _embed(self) -> None:
        table, spec = self.module.embedding, self.module.spec
        blocks, form = kernel_weights.table_of(table)
        self.noted(*kernel_weights.holder(table))
        width = blocks.stride(0) * blocks.element_size()
        told = Embed(*map(pointer, (blocks, self.ids, self.x_ND)), width, self.rows, spec.dim, number(form))
        told.scale = 1.0 if spec.embedding_scale is None else spec.embedding_scale
        self.operations().append("embed", told)
        positions = self.module.positions
        if positions is not None:
            self.segments.append(lambda x_ND, context: x_ND + positions(context.positions_N))

    def _mixer(self, block: BlockModule, cache: Cache) -> None:
        mixer: Any = block.mixer
        spec, width = mixer.spec, mixer.spec.head_dim
        maps = (mixer.query, mixer.key, mixer.value)
        heads_NR = self.floats("heads", (spec.heads + 2 * spec.kv_heads) * width)
        self.products(mixer.fan, maps, self.normed(block.mixer_norms, maps), heads_NR)
        places, ends = self.seen(spec.window)
        told = Rotate(x=heads_NR.data_ptr(), positions=self.positions.data_ptr(), row=heads_NR.shape[1])
        told.cache, told.slots, told.places = address(cache), self.slots.data_ptr(), places.data_ptr()
        told.count, told.heads, told.kv_heads = self.rows, spec.heads, spec.kv_heads
        told.width = told.value_width = width
        self._head_norms(mixer, told)
        if spec.rope is not None:
            cos_PW, sin_PW = self.turns(spec.rope)
            told.cos, told.sin, told.turned = cos_PW.data_ptr(), sin_PW.data_ptr(), spec.rope.width
            told.interleaved = spec.rope.interleaved
        self.operations().append("rotate", told, cache)
        self._attend(mixer, cache, heads_NR, (places, ends), laid := self.laid(spec.heads * width, (mixer.out,)))
        self.finish(mixer.out, laid, block.mixer_norms)

    def _latent(self, block: BlockModule, cache: LatentCache) -> None:
        mixer: Any = block.mixer
        spec, seen = mixer.spec, self.seen(None)
        cos_PW, sin_PW = self.turns(spec.rope)
        told = Rotate(positions=self.positions.data_ptr(), cos=cos_PW.data_ptr(), sin=sin_PW.data_ptr())
        told.slots, told.places, told.count = self.slots.data_ptr(), seen[0].data_ptr(), self.rows
        told.turned, told.interleaved = spec.rope.width, spec.rope.interleaved
        parts = self.parts(spec.heads, spec.rank)
        kernel_latent.add(self, mixer, block.mixer_norms, cache, told, seen, parts)

    def _attend(
        self, mixer: GroupedQueryAttention, cache: Cache, heads_NR: Tensor, seen: tuple[Tensor, Tensor], laid: Laid
    ) -> None:
        spec, slopes = mixer.spec, None
        parts = self.parts(spec.heads, spec.head_dim)
        if spec.alibi is not None:
            slopes = torch.tensor(spec.alibi.slopes(spec.heads))
        told = Attend(
            *(heads_NR.data_ptr(), address(cache)),
            *map(pointer, (self.slots, *seen, slopes, parts.sums, parts.tops, None)),
            *(laid.structure, heads_NR.shape[1], self.rows, spec.heads, spec.window or 0, 0, parts.spans),
            *(mixer.scale, spec.softcap or 0.0),
        )
        for name in ("attend", "attend_join"):
            self.operations().append(name, told, slopes, parts, seen)

    def _head_norms(self, mixer: GroupedQueryAttention, told: Rotate) -> None:
        if mixer.query_norm is None or mixer.key_norm is None:
            return
        told.query_weight = self.held(mixer.query_norm, "weight").data_ptr()
        told.key_weight = self.held(mixer.key_norm, "weight").data_ptr()
        told.eps, told.offset, told.centred = _norm_told(mixer.query_norm)
        if getattr(mixer.query_norm, "bias", None) is not None:
            told.query_bias = self.held(mixer.query_norm, "bias").data_ptr()
            told.key_bias = self.held(mixer.key_norm, "bias").data_ptr()

    def _feed(self, block: BlockModule) -> None:
        feed: Any = block.feed
        if isinstance(feed, ExpertsFeed):
            kernel_experts.add(self, feed, block.feed_norms)
            return
        hidden = feed.spec.hidden
        laid = self.laid(hidden, (feed.down,))
        told = Gate(tiles=laid.structure, count=self.rows, width=hidden)
        told.activation = ACTIVATIONS.index(feed.spec.activation)
        if isinstance(feed, GatedFeed):
            both_N2F = self.floats("hidden", 2 * hidden)
            maps = (feed.gate, feed.up)
            self.products(feed.fan, maps, self.normed(block.feed_norms, maps), both_N2F)
            told.gate, told.up = both_N2F.data_ptr(), both_N2F[:, hidden:].data_ptr()
            told.gate_row = told.up_row = 2 * hidden
        else:
            up_NF = self.floats("hidden", hidden)
            self.products(None, (feed.up,), self.normed(block.feed_norms, (feed.up,)), up_NF)
            told.gate, told.gate_row = up_NF.data_ptr(), hidden
        self.operations().append("gate", told)
        self.finish(feed.down, laid, block.feed_norms)

    def _torch(self, layer: int, part: nn.Module, norms: Norms) -> None:
        """A part that the list lacks: the module's own code, as nn/block.py runs it, in the module's own precision."""
        block: Any = self.module.blocks[layer]
        self.segments.append(lambda x_ND, context: block.added(x_ND.to(self.dtype), part, norms, context.at(layer))[0])

    def _head(self) -> None:
        module, head = self.module, self.module.head
        scored = module.embedding if head is None else head
        if not multiplies((scored,)):
            last_XD = self.x_ND[self.rows - self.last :]
            self.segments.append(lambda x_ND, context: module.logits(last_XD.to(self.dtype), context).float())
            return
        strips = kernel_weights.strips(scored)
        self.noted(*kernel_weights.holder(scored))
        bias = None if head is None or head.bias is None else self.held(head, "bias")
        laid = self.laid(module.spec.dim, (scored,), self.last)
        self.lay(module.norm, laid, self.chosen)
        out = Output(None, strips.rows, pointer(bias), False)
        self.product_of_head = Product(strips.struct, laid.structure, out)
        self.operations().append("product", self.product_of_head, strips)

    # ---- what parts are made of

    def normed(self, norms: Norms, maps: Sequence[nn.Module]) -> Laid:
        """The residual, normed where the block norms before its parts, as products with these maps read it."""
        laid = self.laid(self.module.spec.dim, maps)
        self.lay(norms.before, laid, None)
        return laid

    def lay(self, norm: nn.Module | None, laid: Laid, chosen: Tensor | None) -> None:
        count, width = laid.structure.rows, self.x_ND.shape[1]
        if norm is None:
            start = self.x_ND[self.rows - count :].data_ptr()  # the chosen ones are the last
            told = Gate(gate=start, tiles=laid.structure, gate_row=width, count=count, width=width, activation=NOTHING)
            self.operations().append("gate", told)
            return
        self.norm(norm, Norm(x=self.x_ND.data_ptr(), chosen=pointer(chosen), tiles=laid.structure, count=count))

    def norm(self, norm: nn.Module, told: Norm, width: int | None = None) -> None:
        told.weight = self.held(norm, "weight").data_ptr()
        if getattr(norm, "bias", None) is not None:
            told.bias = self.held(norm, "bias").data_ptr()
        told.eps, told.offset, told.centred = _norm_told(norm)
        told.inner, told.width = 1, width or self.x_ND.shape[1]
        told.x_outer, told.y_outer = told.x_outer or told.width, told.y_outer or told.width
        self.operations().append("norm", told)

    def products(self, fan: Fan | None, maps: Sequence[Any], laid: Laid, out_NR: Tensor) -> None:
        """Each map's outputs side by side; one product for all where they are of one format."""
        strips = kernel_weights.joined(fan, maps)
        if strips is not None:
            for one in maps:
                self.noted(*kernel_weights.holder(one))
            out = Output(out_NR.data_ptr(), out_NR.shape[1], None, False)
            self.operations().append("product", Product(strips.struct, laid.structure, out), strips)
            return
        start = 0
        for one in maps:
            self.product(one, laid, out_NR[:, start:], add=False)
            start += kernel_weights.strips(one).rows

    def product(self, one: Any, laid: Laid, out_NR: Tensor, *, add: bool) -> None:
        strips = kernel_weights.strips(one)
        self.noted(*kernel_weights.holder(one))
        bias = None if one.bias is None else self.held(one, "bias")
        out = Output(out_NR.data_ptr(), out_NR.stride(0), pointer(bias), add)
        self.operations().append("product", Product(strips.struct, laid.structure, out), strips)

    def finish(self, one: nn.Module, laid: Laid, norms: Norms) -> None:
        """outside(x + after(product)): the sum of the residual, as nn/block.py says it."""
        y_ND = self.x_ND if norms.after is None else self.floats("part", self.x_ND.shape[1])
        self.product(one, laid, y_ND, add=norms.after is None)
        self.close(y_ND, norms)

    def close(self, y_ND: Tensor, norms: Norms) -> None:
        """The same behind the product, which made `y_ND`: the residual itself where no norm stands between."""
        if norms.after is not None:
            self.norm(norms.after, Norm(x=y_ND.data_ptr(), y=self.x_ND.data_ptr(), count=self.rows, adds=1))
        if norms.outside is not None:
            self.norm(norms.outside, Norm(x=self.x_ND.data_ptr(), y=self.x_ND.data_ptr(), count=self.rows))

    # ---- memory

    def operations(self) -> Operations:
        if not self.segments or not isinstance(self.segments[-1], Operations):
            self.segments.append(Operations())
        last = self.segments[-1]
        assert isinstance(last, Operations)
        return last

    def noted(self, module: nn.Module, name: str) -> Tensor:
        """A tensor of a module, of which from now on it is asked whether it is still the same."""
        held = module._buffers if name in module._buffers else module._parameters
        self.weights.append((held, name))
        tensor = held[name]
        assert tensor is not None
        return tensor.detach()

    def held(self, module: nn.Module, name: str) -> Tensor:
        """The same in float32, as kernels read it: where it lies, or a copy."""
        tensor = self.noted(module, name).float()
        self._copies.append(tensor)
        return tensor

    def floats(self, name: str, columns: int, rows: int | None = None) -> Tensor:
        """Room that all layers share, (rows, columns)."""
        key = (f"{name} {rows or self.rows}", columns)
        if key not in self._memory:
            self._memory[key] = torch.zeros(rows or self.rows, columns)
        return self._memory[key]

    def laid(self, columns: int, maps: Sequence[Any], rows: int | None = None, name: str = "") -> Laid:
        """Room for what products with these maps read: bytes where asked for, floats for plain weights. Of one
        name, all layers share it."""
        int8, rows = self.int8 and not any(map(kernel_weights.is_plain, maps)), rows or self.rows
        key = (f"laid {rows} {int8} {name}", columns)
        if key not in self._memory:
            self._memory[key] = Laid(rows, columns, int8=int8)
        return self._memory[key]

    def parts(self, heads: int, width: int) -> Parts:
        key = (f"parts {heads}", width)
        if key not in self._memory:
            self._memory[key] = Parts(spans_for(self.rows, self.room), self.rows, heads, width)
        return self._memory[key]

    def seen(self, window: int | None) -> tuple[Tensor, Tensor]:
        if window not in self.places:
            self.places[window] = (torch.zeros_like(self.slots), torch.zeros_like(self.slots))
        return self.places[window]

    def turns(self, rope: Rope) -> tuple[Tensor, Tensor]:
        """(cos, sin) of all positions, each (room, W)."""
        if rope not in self._tables:
            amplitude = 1.0 if rope.scaling is None else rope.scaling.amplitude
            told = {"amplitude": amplitude, "interleaved": rope.interleaved}
            cos, sin = turning.tables(rope.frequencies(), torch.arange(self.room), **told)
            self._tables[rope] = cos.squeeze(1).contiguous(), sin.squeeze(1).contiguous()
        return self._tables[rope]


def _norm_told(norm: nn.Module) -> tuple[float, float, bool]:
    """eps, offset, and whether the mean is taken off."""
    if isinstance(norm, RMSNormModule):
        return norm.spec.eps, norm.spec.offset, False
    assert isinstance(norm, LayerNormModule)
    return norm.spec.eps, 0.0, True


def readable(module: DecoderModel) -> bool:
    """Whether all that is not packed is in fp32, fp16 or bfloat16 on the CPU, as kernels read it; in one of them."""
    tables = [table.like for table in module.modules() if isinstance(table, QuantisedEmbedding)]
    plain = [tensor for tensor in (*module.parameters(), *tables) if tensor.is_floating_point()]
    known = isinstance(module.embedding, Embedding | QuantisedEmbedding)
    kinds = {(tensor.dtype, tensor.device.type) for tensor in plain}
    return known and len(kinds) == 1 and kinds <= {(dtype, "cpu") for dtype in kernel_weights.FORMATS}
