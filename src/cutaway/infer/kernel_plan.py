"""A decoder's forward pass over a few tokens as a list of kernels, made from the module once for each number of tokens.

What no kernel does (an expert layer, a latent cache, plain fp32 matrices) cuts the list: torch runs that part on the
same residual, and the list goes on behind it. So a plan is a row of lists and calls.
N tokens of one sequence · X of them whose logits are asked for · D model dim · F hidden dim · V vocabulary.
Read next: ops/cpu/list.py, infer/kernel_steps.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.models.decoder import DecoderModel
from cutaway.nn.attention.grouped import GroupedQueryAttention
from cutaway.nn.block import BlockModule, Norms
from cutaway.nn.context import Context
from cutaway.nn.embedding import Embedding
from cutaway.nn.feedforward import GatedFeed, PlainFeed
from cutaway.nn.norms import LayerNormModule, RMSNormModule
from cutaway.nn.positions import Rope
from cutaway.nn.quantised import Fan, QuantisedEmbedding, QuantisedLinear
from cutaway.nn.rope_scaling import DynamicNtk
from cutaway.ops import rope as turning
from cutaway.ops.blocks.format import PLAIN
from cutaway.ops.cpu.attention import Attend, Parts, spans_for
from cutaway.ops.cpu.cache import LANES, WIDEST, Cache
from cutaway.ops.cpu.embed import Embed, number
from cutaway.ops.cpu.gate import ACTIVATIONS, NOTHING, Gate
from cutaway.ops.cpu.list import GROUP, Laid, Operations, Output, Product, address, pointer
from cutaway.ops.cpu.norm import Norm
from cutaway.ops.cpu.pack import Strips
from cutaway.ops.cpu.rotate import Rotate
from cutaway.ops.packed import Packed

Call = Callable[[Tensor, Context], Tensor]  # what torch makes of the residual (N, D)
Weights = tuple[dict[str, Any], str]  # where a module holds a tensor that a list points into


def packed_maps(maps: Sequence[nn.Module]) -> bool:
    """Whether all are quantised maps that our kernels multiply by, of whole groups of columns."""
    return all(
        type(one) is QuantisedLinear and one.packed.shape[1] % GROUP == 0 and Strips.fits(one.packed.format, 1)
        for one in maps
    )


def lists_mixer(mixer: nn.Module) -> bool:
    """Whether kernels do all that a mixer does."""
    if type(mixer) is not GroupedQueryAttention:
        return False
    spec = mixer.spec
    turns = spec.rope is None or not isinstance(spec.rope.scaling, DynamicNtk)
    fits = spec.head_dim % LANES == 0 and spec.head_dim <= WIDEST
    return turns and fits and not spec.sinks and packed_maps((mixer.query, mixer.key, mixer.value, mixer.out))


def lists_feed(feed: nn.Module) -> bool:
    """Whether kernels do all that a feed does."""
    if type(feed) is GatedFeed:
        return packed_maps((feed.gate, feed.up, feed.down)) and feed.spec.activation in ACTIVATIONS
    return type(feed) is PlainFeed and packed_maps((feed.up, feed.down)) and feed.spec.activation in ACTIVATIONS


def listed(module: DecoderModel) -> int:
    """How many mixers and feeds of a decoder run as kernels."""
    blocks = [block for block in module.blocks if isinstance(block, BlockModule)]
    return sum(lists_mixer(block.mixer) + lists_feed(block.feed) for block in blocks)


class Plan:
    """The lists and calls of a pass in which one sequence brings `rows` tokens and asks for the logits of the last
    `last`. `caches`: what kernels are told of each layer's cache. `room`: tokens that the sequence may reach."""

    def __init__(
        self, module: DecoderModel, caches: Sequence[Cache | None], *, rows: int, last: int, room: int, int8: bool
    ):
        self.module, self.rows, self.last, self.room, self.int8 = module, rows, last, room, int8
        self.segments: list[Operations | Call] = []
        self.weights: list[Weights] = []
        self.places: dict[int | None, tuple[Tensor, Tensor]] = {}  # by window: each row's key, and where its keys end
        self._memory: dict[tuple[str, int], Any] = {}
        self._tables: dict[Rope, tuple[Tensor, Tensor]] = {}
        self.ids, self.positions, self.slots = (torch.zeros(rows, dtype=torch.int32) for _ in range(3))
        self.chosen = torch.arange(rows - last, rows, dtype=torch.int32)
        self.x_ND = torch.zeros(rows, module.spec.dim)
        self.product_of_head: Product | None = None
        self._embed()
        for layer, (block, cache) in enumerate(zip(module.blocks, caches, strict=True)):
            assert isinstance(block, BlockModule)
            if cache is not None:
                self._mixer(block, cache)
            else:
                self._torch(layer, block.mixer, block.mixer_norms)
            if lists_feed(block.feed):
                self._feed(block)
            else:
                self._torch(layer, block.feed, block.feed_norms)
        if last:
            self._head()
        self.pointers = self.where()

    @property
    def names(self) -> tuple[str, ...]:
        """What runs, in its order: kernels by their names, "torch" for what torch does."""
        found: list[str] = []
        for segment in self.segments:
            found += segment.names if isinstance(segment, Operations) else ["torch"]
        return tuple(found)

    def where(self) -> list[int]:
        """Where all weights lie that the lists point into: other addresses mean another plan."""
        return [held[name].data_ptr() for held, name in self.weights]

    # ---- what a part becomes

    def _embed(self) -> None:
        table, spec = self.module.embedding, self.module.spec
        if isinstance(table, QuantisedEmbedding):
            blocks, form = self._held(table.packed, "blocks"), table.packed.format
        else:
            blocks, form = self._held(table, "weight"), PLAIN["f32"]
        width = blocks.stride(0) * blocks.element_size()
        told = Embed(*map(pointer, (blocks, self.ids, self.x_ND)), width, self.rows, spec.dim, number(form))
        told.scale = 1.0 if spec.embedding_scale is None else spec.embedding_scale
        self._list().append("embed", told)
        positions = self.module.positions
        if positions is not None:
            self.segments.append(lambda x_ND, context: x_ND + positions(context.positions_N))

    def _mixer(self, block: BlockModule, cache: Cache) -> None:
        mixer: Any = block.mixer
        spec, width = mixer.spec, mixer.spec.head_dim
        maps = (mixer.query, mixer.key, mixer.value)
        heads_NR = self._floats("heads", (spec.heads + 2 * spec.kv_heads) * width)
        self._products(mixer.fan, maps, self._normed(block.mixer_norms, maps), heads_NR)
        places, ends = self._places(spec.window)
        told = Rotate(x=heads_NR.data_ptr(), positions=self.positions.data_ptr(), row=heads_NR.shape[1])
        told.cache, told.slots, told.places = address(cache), self.slots.data_ptr(), places.data_ptr()
        told.count, told.heads, told.kv_heads = self.rows, spec.heads, spec.kv_heads
        told.width = told.value_width = width
        self._head_norms(mixer, told)
        if spec.rope is not None:
            cos_PW, sin_PW = self._rope(spec.rope)
            told.cos, told.sin, told.turned = cos_PW.data_ptr(), sin_PW.data_ptr(), spec.rope.width
            told.interleaved = spec.rope.interleaved
        self._list().append("rotate", told, cache)
        self._attend(mixer, cache, heads_NR, (places, ends), laid := self._laid(spec.heads * width, (mixer.out,)))
        self._finish(mixer.out, laid, block.mixer_norms)

    def _attend(
        self, mixer: GroupedQueryAttention, cache: Cache, heads_NR: Tensor, seen: tuple[Tensor, Tensor], laid: Laid
    ) -> None:
        spec, slopes = mixer.spec, None
        parts = self._parts(spec.heads, spec.head_dim)
        if spec.alibi is not None:
            slopes = torch.tensor(spec.alibi.slopes(spec.heads))
        told = Attend(
            *(heads_NR.data_ptr(), address(cache)),
            *map(pointer, (self.slots, *seen, slopes, parts.sums, parts.tops, None)),
            *(laid.structure, heads_NR.shape[1], self.rows, spec.heads, spec.window or 0, 0, parts.spans),
            *(mixer.scale, spec.softcap or 0.0),
        )
        for name in ("attend", "attend_join"):
            self._list().append(name, told, slopes, parts, seen)

    def _head_norms(self, mixer: GroupedQueryAttention, told: Rotate) -> None:
        if mixer.query_norm is None or mixer.key_norm is None:
            return
        told.query_weight = self._held(mixer.query_norm, "weight").data_ptr()
        told.key_weight = self._held(mixer.key_norm, "weight").data_ptr()
        told.eps, told.offset, told.centred = _norm_told(mixer.query_norm)
        if getattr(mixer.query_norm, "bias", None) is not None:
            told.query_bias = self._held(mixer.query_norm, "bias").data_ptr()
            told.key_bias = self._held(mixer.key_norm, "bias").data_ptr()

    def _feed(self, block: BlockModule) -> None:
        feed: Any = block.feed
        hidden = feed.spec.hidden
        laid = self._laid(hidden, (feed.down,))
        told = Gate(tiles=laid.structure, count=self.rows, width=hidden)
        told.activation = ACTIVATIONS.index(feed.spec.activation)
        if isinstance(feed, GatedFeed):
            both_N2F = self._floats("hidden", 2 * hidden)
            maps = (feed.gate, feed.up)
            self._products(feed.fan, maps, self._normed(block.feed_norms, maps), both_N2F)
            told.gate, told.up = both_N2F.data_ptr(), both_N2F[:, hidden:].data_ptr()
            told.gate_row = told.up_row = 2 * hidden
        else:
            up_NF = self._floats("hidden", hidden)
            self._products(None, (feed.up,), self._normed(block.feed_norms, (feed.up,)), up_NF)
            told.gate, told.gate_row = up_NF.data_ptr(), hidden
        self._list().append("gate", told)
        self._finish(feed.down, laid, block.feed_norms)

    def _torch(self, layer: int, part: nn.Module, norms: Norms) -> None:
        """A part that the list lacks: the module's own code, as nn/block.py runs it."""
        block: Any = self.module.blocks[layer]
        self.segments.append(lambda x_ND, context: block.added(x_ND, part, norms, context.at(layer))[0])

    def _head(self) -> None:
        module, head = self.module, self.module.head
        table: Any = module.embedding
        packed: Packed | None = table.packed if head is None and isinstance(table, QuantisedEmbedding) else None
        if type(head) is QuantisedLinear:
            packed = head.packed
        fits = packed is not None and packed.shape[1] % GROUP == 0 and Strips.fits(packed.format, 1)
        strips = packed.strips() if packed is not None and fits else None
        if packed is None or strips is None:
            self.segments.append(lambda x_ND, context: module.logits(x_ND[self.rows - self.last :], context))
            return
        self._held(packed, "blocks")
        bias = None if head is None or head.bias is None else self._held(head, "bias")
        laid = self._laid(module.spec.dim, (packed,), self.last)
        self._lay(module.norm, laid, self.chosen)
        out = Output(None, strips.rows, pointer(bias), False)
        self.product_of_head = Product(strips.struct, laid.structure, out)
        self._list().append("product", self.product_of_head, strips)

    # ---- what parts are made of

    def _normed(self, norms: Norms, maps: Sequence[nn.Module]) -> Laid:
        """The residual, normed where the block norms before its parts, as products with these maps read it."""
        laid = self._laid(self.module.spec.dim, maps)
        self._lay(norms.before, laid, None)
        return laid

    def _lay(self, norm: nn.Module | None, laid: Laid, chosen: Tensor | None) -> None:
        count, width = laid.structure.rows, self.x_ND.shape[1]
        if norm is None:
            start = self.x_ND[self.rows - count :].data_ptr()  # the chosen ones are the last
            told = Gate(gate=start, tiles=laid.structure, gate_row=width, count=count, width=width, activation=NOTHING)
            self._list().append("gate", told)
            return
        self._norm(norm, Norm(x=self.x_ND.data_ptr(), chosen=pointer(chosen), tiles=laid.structure, count=count))

    def _norm(self, norm: nn.Module, told: Norm) -> None:
        told.weight = self._held(norm, "weight").data_ptr()
        if getattr(norm, "bias", None) is not None:
            told.bias = self._held(norm, "bias").data_ptr()
        told.eps, told.offset, told.centred = _norm_told(norm)
        told.inner, told.width, told.x_outer, told.y_outer = 1, *(self.x_ND.shape[1],) * 3
        self._list().append("norm", told)

    def _products(self, fan: Fan | None, maps: Sequence[Any], laid: Laid, out_NR: Tensor) -> None:
        """Each map's outputs side by side; one product for all where they are of one format."""
        joined = fan.joint(tuple(maps)) if fan is not None else None
        strips = None if joined is None else joined.strips()
        if joined is not None and strips is not None:
            for part in joined.parts:
                self._held(part, "blocks")
            out = Output(out_NR.data_ptr(), out_NR.shape[1], None, False)
            self._list().append("product", Product(strips.struct, laid.structure, out), strips, joined)
            return
        start = 0
        for one in maps:
            self._product(one, laid, out_NR[:, start:], add=False)
            start += one.packed.shape[0]

    def _product(self, one: Any, laid: Laid, out_NR: Tensor, *, add: bool) -> None:
        strips = one.packed.strips()
        self._held(one.packed, "blocks")
        bias = None if one.bias is None else self._held(one, "bias")
        out = Output(out_NR.data_ptr(), out_NR.stride(0), pointer(bias), add)
        self._list().append("product", Product(strips.struct, laid.structure, out), strips)

    def _finish(self, one: nn.Module, laid: Laid, norms: Norms) -> None:
        """outside(x + after(product)): the sum of the residual, as nn/block.py says it."""
        if norms.after is None:
            self._product(one, laid, self.x_ND, add=True)
        else:
            y_ND = self._floats("part", self.x_ND.shape[1])
            self._product(one, laid, y_ND, add=False)
            self._norm(norms.after, Norm(x=y_ND.data_ptr(), y=self.x_ND.data_ptr(), count=self.rows, adds=1))
        if norms.outside is not None:
            self._norm(norms.outside, Norm(x=self.x_ND.data_ptr(), y=self.x_ND.data_ptr(), count=self.rows))

    # ---- memory

    def _list(self) -> Operations:
        if not self.segments or not isinstance(self.segments[-1], Operations):
            self.segments.append(Operations())
        last = self.segments[-1]
        assert isinstance(last, Operations)
        return last

    def _held(self, module: nn.Module, name: str) -> Tensor:
        held = module._buffers if name in module._buffers else module._parameters
        self.weights.append((held, name))
        tensor = held[name]
        assert tensor is not None
        return tensor.detach()

    def _floats(self, name: str, columns: int) -> Tensor:
        return self._memory.setdefault((name, columns), torch.zeros(self.rows, columns))

    def _laid(self, columns: int, maps: Sequence[Any], rows: int | None = None) -> Laid:
        """Room for what products with these maps read: bytes where asked for, floats for plain 16-bit weights."""
        formats = {(one.packed if isinstance(one, QuantisedLinear) else one).format.name for one in maps}
        int8, rows = self.int8 and formats.isdisjoint(PLAIN), rows or self.rows
        key = (f"laid {rows} {int8}", columns)
        if key not in self._memory:
            self._memory[key] = Laid(rows, columns, int8=int8)
        return self._memory[key]

    def _parts(self, heads: int, width: int) -> Parts:
        key = (f"parts {heads}", width)
        if key not in self._memory:
            self._memory[key] = Parts(spans_for(self.rows, self.room), self.rows, heads, width)
        return self._memory[key]

    def _places(self, window: int | None) -> tuple[Tensor, Tensor]:
        if window not in self.places:
            self.places[window] = (torch.zeros_like(self.slots), torch.zeros_like(self.slots))
        return self.places[window]

    def _rope(self, rope: Rope) -> tuple[Tensor, Tensor]:
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


def float32_throughout(module: DecoderModel) -> bool:
    """Whether all that is not packed is float32 on the CPU, as the kernels read it."""
    plain = (*module.parameters(), *(table.like for table in module.modules() if isinstance(table, QuantisedEmbedding)))
    known = isinstance(module.embedding, (Embedding, QuantisedEmbedding))
    return known and all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in plain)
