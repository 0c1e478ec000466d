"""A decoder's forward pass over a few tokens as a list of kernels, made from the module once for passes of every size.

What no kernel does (a recurrent state) cuts the list: torch runs that part on the same residual, and the list goes on
behind it. So a plan is a row of lists and calls.
Whose token a row is, where its key goes and how far it sees stand in arrays that lists point to: rows of one text and
of many are the same to them. How many rows there are is written into lists before each pass (infer/kernel_sizes.py).
N tokens, flat · X of them whose logits are asked for · D model dim · F hidden dim · V vocabulary.
Read next: ops/cpu/list.py, infer/kernel_reach.py, infer/kernel_shelf.py, infer/kernel_steps.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cutaway.infer import kernel_experts, kernel_grouped, kernel_latent, kernel_weights
from cutaway.infer.kernel_caches import Kept, Rolling, rolling
from cutaway.infer.kernel_latent import LatentCache
from cutaway.infer.kernel_making import settings
from cutaway.infer.kernel_reach import lists_feed, rooms
from cutaway.infer.kernel_sizes import MOST, Sizes, fill, ints
from cutaway.infer.kernel_turns import Turns
from cutaway.infer.kernel_weights import multiplies
from cutaway.infer.watch import Name, Watch
from cutaway.models.decoder import DecoderModel
from cutaway.nn.block import BlockModule, Norms
from cutaway.nn.context import Context
from cutaway.nn.experts.mixture import ExpertsFeed
from cutaway.nn.feedforward import GatedFeed
from cutaway.nn.quantised import Fan
from cutaway.ops.cpu.attention import FEW, Parts, spans_for
from cutaway.ops.cpu.embed import FORMATS as LOOKED_UP
from cutaway.ops.cpu.embed import Embed, number
from cutaway.ops.cpu.gate import ACTIVATIONS, NOTHING, Gate
from cutaway.ops.cpu.list import Laid, Operations, Output, Product, pointer
from cutaway.ops.cpu.norm import Norm
from cutaway.ops.cpu.rotate import Rotate

Call = Callable[[Tensor, Context], Tensor]  # what torch makes of the residual (N, D)


class Plan:
    """The lists and calls of a pass of up to MOST tokens, of sequences of up to `length`. `kept`: what kernels are told
    of each layer's cache; whoever runs a pass writes that there (`kernel_reach.rooms`), and into arrays by `take`."""

    def __init__(self, module: DecoderModel, *, int8: bool, length: int):
        self.rows, self.int8, self.length = MOST, int8, length
        self.module: Any = module  # while the plan is made: what keeps a module is never let go with it
        self.spec, self.made_of = module.spec, tuple(module.modules())[1:]
        kinds = (one.dtype for one in module.parameters() if one.is_floating_point())
        self.dtype = next(kinds, torch.float32)  # what torch computes in
        self.segments: list[Operations | Call] = []
        self._names: list[Name] = []  # of all tensors that lists are made of
        # By what is kept of a text: each row's key, and where its keys end.
        self.places: dict[Rolling, tuple[np.ndarray, np.ndarray]] = {}
        self._memory: dict[tuple[str, int], Any] = {}
        self.turns = Turns(length)
        self._copies: list[Tensor] = []  # of weights, where lists point to those
        self.ids, self.positions, self.slots, self.asked = (ints() for _ in range(4))
        self.x_ND = torch.zeros(MOST, module.spec.dim)
        self.head: tuple[Operations, Product] | None = None  # None: torch's
        self.kept, caches = rooms(module)
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
        self._head()
        lists = [segment for segment in self.segments if isinstance(segment, Operations)]
        self.wants_torch = self.head is None or len(lists) < len(self.segments)
        """Whether some of it is torch's, which is told a context."""
        self.sizes = Sizes(lists, MOST, length)
        self.asked_sizes = Sizes([] if self.head is None else self.head[:1], MOST, length)
        self.turns.grow(1)
        self.weights = Watch(self._names)
        del self.module

    @property
    def names(self) -> tuple[str, ...]:
        """What runs, in its order: kernels by their names, "torch" for what torch does."""
        found: list[str] = []
        for segment in self.segments:
            found += segment.names if isinstance(segment, Operations) else ["torch"]
        return (*found, *(("torch",) if self.head is None else self.head[0].names))

    # ---- a pass

    def take(
        self, ids: Sequence[int], positions: Sequence[int], slots: Sequence[int], asked: Sequence[int], multiple: int
    ) -> None:
        """The tokens of the next pass: their places in their texts, the slots that hold those, and whose logits are
        asked for. `multiple`: rows are made so many by repeating the last, which writes what it wrote once more."""
        rows, wanted = (-(-len(some) // multiple) * multiple for some in (ids, asked))
        self.sizes.fit(rows)
        self.asked_sizes.fit(wanted)
        for held, new in ((self.ids, ids), (self.positions, positions), (self.slots, slots)):
            fill(held, new, rows)
        fill(self.asked, asked, wanted)

    def see(self, kept: Rolling, places: Sequence[int]) -> None:
        """Which key of its slot each row's own is, for mixers that keep so much; it sees all up to it."""
        held, ends = self.places[kept]
        fill(held, places, self.sizes.rows)
        fill(ends, [place + 1 for place in places], self.sizes.rows)

    def run(self, module: DecoderModel, count: int, out_XV: Tensor, context: Context | None) -> None:
        """Runs the pass that `take` was told of, over `count` tokens, those that fill up not counted. Logits go to
        `out_XV`, which has room for the rows that fill up."""
        for segment in self.segments:
            if isinstance(segment, Operations):
                segment.run()
            else:
                assert context is not None
                x_ND = self.x_ND[:count]
                x_ND.copy_(segment(x_ND, context))
                self.x_ND[count : self.sizes.rows] = x_ND[-1]  # as `take` fills up
        wanted, softcap = self.asked_sizes.rows, self.spec.softcap
        if wanted and self.head is not None:
            operations, product = self.head
            product.out.y = out_XV.data_ptr()
            operations.run()
            if softcap is not None:
                out_XV[:wanted].div_(softcap).tanh_().mul_(softcap)
        elif wanted:
            assert context is not None
            x_XD = self.x_ND[torch.from_numpy(self.asked[:wanted]).long()]
            out_XV[:wanted] = module.logits(x_XD.to(self.dtype), context).float()

    # ---- what a part becomes

    def _embed(self) -> None:
        table, spec = self.module.embedding, self.module.spec
        blocks, form = kernel_weights.table_of(table)
        scale = 1.0 if spec.embedding_scale is None else spec.embedding_scale
        if form.name in LOOKED_UP:
            self._copies.append(self.noted(*kernel_weights.holder(table)))  # its memory stays, whoever moves it
            width = blocks.stride(0) * blocks.element_size()
            addresses = blocks.data_ptr(), self.ids.ctypes.data, self.x_ND.data_ptr()
            told = Embed(*addresses, width, self.rows, spec.dim, number(form))
            told.scale = scale
            self.operations().append("embed", told)
        else:  # rounded here, a scale for a row or for all: torch unpacks the rows
            ids = torch.from_numpy(self.ids)
            self.segments.append(lambda x_ND, context: scale * table(ids[: len(x_ND)].long()))
        positions = self.module.positions
        if positions is not None:
            self.segments.append(lambda x_ND, context: x_ND + positions(context.positions_N))

    def _mixer(self, block: BlockModule, cache: Kept) -> None:
        mixer: Any = block.mixer
        spec, seen = mixer.spec, self.seen(rolling(mixer))
        positions, slots, places = (one.ctypes.data for one in (self.positions, self.slots, seen[0]))
        told = Rotate(positions=positions, slots=slots, places=places)
        told.count = self.rows
        if spec.rope is not None:
            told.cos, told.sin = map(pointer, self.turns.of(spec.rope))
            told.turned, told.interleaved = spec.rope.width, spec.rope.interleaved
        if isinstance(cache, LatentCache):
            parts = self.parts(spec.heads, spec.rank)
            kernel_latent.add(self, mixer, block.mixer_norms, cache, told, seen, parts)
        else:
            parts = self.parts(spec.heads, spec.head_dim)
            kernel_grouped.add(self, mixer, block.mixer_norms, cache, told, seen, parts)

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
        if not multiplies((scored,)) or module.norm is None:
            return
        strips = kernel_weights.strips(scored)
        self.noted(*kernel_weights.holder(scored))
        bias = None if head is None or head.bias is None else self.held(head, "bias")
        laid = self.laid(module.spec.dim, (scored,), name="asked")
        operations, out = Operations(), Output(None, strips.rows, pointer(bias), False)
        told = Norm(x=self.x_ND.data_ptr(), chosen=self.asked.ctypes.data, tiles=laid.structure, count=self.rows)
        operations.append("norm", self._normed(module.norm, told))
        product = Product(strips.struct, laid.structure, out)
        operations.append("product", product, strips)
        self.head = operations, product

    # ---- what parts are made of

    def normed(self, norms: Norms, maps: Sequence[nn.Module]) -> Laid:
        """The residual, normed where the block norms before its parts, as products with these maps read it."""
        laid = self.laid(self.module.spec.dim, maps)
        self.lay(norms.before, laid)
        return laid

    def lay(self, norm: nn.Module | None, laid: Laid) -> None:
        width = self.x_ND.shape[1]
        if norm is not None:
            self.norm(norm, Norm(x=self.x_ND.data_ptr(), tiles=laid.structure, count=self.rows))
            return
        told = Gate(gate=self.x_ND.data_ptr(), tiles=laid.structure, gate_row=width, count=self.rows, width=width)
        told.activation = NOTHING
        self.operations().append("gate", told)

    def norm(self, norm: nn.Module, told: Norm, width: int | None = None) -> None:
        self.operations().append("norm", self._normed(norm, told, width))

    def _normed(self, norm: nn.Module, told: Norm, width: int | None = None) -> Norm:
        told.weight = self.held(norm, "weight").data_ptr()
        if getattr(norm, "bias", None) is not None:
            told.bias = self.held(norm, "bias").data_ptr()
        told.eps, told.offset, told.centred = settings(norm)
        told.inner, told.width = 1, width or self.x_ND.shape[1]
        told.x_outer, told.y_outer = told.x_outer or told.width, told.y_outer or told.width
        return told

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
        tensor = held[name]
        assert tensor is not None
        self._names.append((held, name))
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
            # Of few rows there are parts by spans, of many one each. What is never written to is no memory yet.
            self._memory[key] = Parts(1, max(MOST, FEW * spans_for(1, self.length)), heads, width)
        return self._memory[key]

    def seen(self, kept: Rolling) -> tuple[np.ndarray, np.ndarray]:
        if kept not in self.places:
            self.places[kept] = ints(), ints()
        return self.places[kept]
