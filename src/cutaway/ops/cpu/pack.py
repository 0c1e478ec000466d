"""A matrix repacked for the kernels: sixteen rows (outputs) side by side, one to each lane of a register.

A strip is sixteen rows. Within it come the groups of 32 columns one after the other, and in a group the columns by
fours, so that 64 bytes hold four bytes of each row (r0 .. r15: a row's lane; c: a column's code, 4 or 8 bits):

    bytes     [r0: c0 c1 c2 c3 | r1: c0 c1 c2 c3 | ... | r15: c0 c1 c2 c3]   then the same of c4-c7 ... c28-c31
    half-bytes   the low halves are c0 .. c3, the high ones c4 .. c7; then c8 .. c15 and so on
    5, 6 bits    half-bytes; behind those of a group the fifth bits of its bytes, in their order, then the sixth
    scales    [r0 | r1 | ... | r15]    one for each group; offsets likewise
    plain     [r0 | r1 | ... | r15]    the weights themselves, two or four bytes each, column by column

    w = scale (q - centre) + offset        in fp32, each weight the one that the blocks stand for, bit for bit

Every block format becomes one of the kinds below without loss: K-quants' two levels of scales are multiplied out, which
fp32 holds exactly and fp16 would not; a scale that more than 32 columns share is written once for each 32. Plain fp32
weights that 16 bits hold, as those of a bfloat16 checkpoint do, are kept in 16 bits: half the bytes, the same numbers.
The rounding of activations is here too: with d_g = max |x_g| / 127 for each group of 32,

    |x - d_g code| <= d_g / 2      and so      |y - y_exact| <= sum_g d_g / 2 sum_{c in g} |w_c|   beside fp32's own
Read next: ops/cpu/strips.h, ops/cpu/multiply.py
"""

# N rows of x · R rows (outputs) · C columns (inputs) · G groups of 32 columns · S strips of 16 rows · L lane

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.blocks.format import BlockFormat
from cutaway.ops.cpu.memory import ARENA
from cutaway.ops.multiply.parts import slabs, take_apart

LANES, GROUP = 16, 32
HALVES, BITS = GROUP * LANES // 2, GROUP * LANES // 8  # bytes of a group: its half-bytes, and one bit of each code
PLACES = torch.arange(8, dtype=torch.uint8)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How weights are held; `number` is that of strips.h. `group`: columns that share a scale. `dtype`: of plain
    weights, which have no scales."""

    number: int
    bits: int
    centre: int = 0
    offset: bool = False
    scale: torch.dtype = torch.float16
    group: int = GROUP
    dtype: torch.dtype | None = None


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "q4_0": Kind(number=0, bits=4, centre=8),
        "q4_1": Kind(number=1, bits=4, offset=True),
        "q4_k": Kind(number=2, bits=4, offset=True, scale=torch.float32),
        "q5_0": Kind(number=10, bits=5, centre=16),
        "q8_0": Kind(number=3, bits=8, centre=128),
        "q5_1": Kind(number=4, bits=5, offset=True),
        "q5_k": Kind(number=11, bits=5, offset=True, scale=torch.float32),
        "q6_k": Kind(number=6, bits=6, centre=32, scale=torch.float32, group=16),
        "int4": Kind(number=0, bits=4, centre=8),
        "int8": Kind(number=3, bits=8, centre=128),
        "int4z": Kind(number=2, bits=4, offset=True, scale=torch.float32),
        "int8z": Kind(number=5, bits=8, offset=True, scale=torch.float32),
        "f16": Kind(number=7, bits=16, dtype=torch.float16),
        "bf16": Kind(number=8, bits=16, dtype=torch.bfloat16),
        "f32": Kind(number=9, bits=32, dtype=torch.float32),
    }
)
"""The kind that each format becomes."""

PLAIN: Mapping[torch.dtype, Kind] = MappingProxyType({kind.dtype: kind for kind in KINDS.values() if kind.dtype})
"""The kind of plain weights."""


class Struct(ctypes.Structure):
    """`Strips` as C++ sees it (strips.h)."""

    _fields_: ClassVar = [
        ("codes", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("rows", ctypes.c_int32),
        ("groups", ctypes.c_int32),
        ("kind", ctypes.c_int32),
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class Strips:
    """codes: uint8 (S, G, bytes of a group); scales, offsets: (S, G or 2 G, 16) of the kind's dtype, or None.

    `rows` and `columns` are the matrix's own; what pads them to whole strips and groups is zeros.
    """

    kind: Kind
    codes: Tensor
    scales: Tensor | None
    offsets: Tensor | None
    rows: int
    columns: int

    @staticmethod
    def fits(format: BlockFormat, rows: int) -> bool:
        """Whether there is a kind for it."""
        kind = KINDS.get(format.name)
        return kind is not None and rows > 0 and (kind.dtype is not None or format.weights % kind.group == 0)

    @classmethod
    def of(cls, blocks: Tensor, format: BlockFormat) -> Strips:
        """Repacks blocks, uint8 (R, bytes per row), a slab at a time, so that little more than the result is held."""
        rows, columns, kind = len(blocks), blocks.shape[1] // format.bytes * format.weights, KINDS[format.name]
        if kind.dtype is not None:
            return cls.plain(blocks.view(kind.dtype))
        made = cls._empty(kind, rows, columns)
        for slab in slabs(rows, columns, multiple=LANES):
            parts = take_apart(blocks[slab], format)
            assert parts.centre == kind.centre, "codes that another kind holds"
            shared = parts.group // kind.group
            strips = slice(slab.start // LANES, -(-slab.stop // LANES))
            made.codes[strips] = _interleaved(_padded(parts.q_RC), kind)
            assert made.scales is not None
            made.scales[strips] = _across(parts.scale_RG.repeat_interleave(shared, 1))
            if made.offsets is not None and parts.offset_RG is not None:
                made.offsets[strips] = _across(parts.offset_RG.repeat_interleave(shared, 1))
        return made

    @classmethod
    def plain(cls, w_RC: Tensor) -> Strips:
        """Repacks weights (R, C) of fp16, bfloat16 or fp32; they stay what they are."""
        if w_RC.dtype not in PLAIN or w_RC.dim() != 2:
            raise BadInput(f"strips of plain weights are made from fp16, bfloat16 or fp32 rows, not {w_RC.dtype}")
        rows, columns = w_RC.shape
        made = cls._empty(PLAIN[narrowest(w_RC)], rows, columns)
        for slab in slabs(rows, columns, multiple=LANES):
            count = -(-(slab.stop - slab.start) // LANES)
            whole = w_RC.new_zeros(count * LANES, made.codes.shape[1] * GROUP, dtype=made.kind.dtype)
            whole[: slab.stop - slab.start, :columns] = w_RC[slab]
            lanes = whole.view(count, LANES, -1, GROUP).permute(0, 2, 3, 1)
            made.codes[slab.start // LANES :][:count] = lanes.contiguous().view(torch.uint8).flatten(2)
        return made

    @classmethod
    def _empty(cls, kind: Kind, rows: int, columns: int) -> Strips:
        strips, groups = -(-rows // LANES), -(-columns // GROUP)
        codes = ARENA.empty(strips, groups, GROUP * LANES * kind.bits // 8, dtype=torch.uint8)

        def numbers() -> Tensor:
            return ARENA.empty(strips, groups * GROUP // kind.group, LANES, dtype=kind.scale)

        scales = None if kind.dtype is not None else numbers()
        return cls(
            kind=kind,
            codes=codes,
            scales=scales,
            offsets=numbers() if kind.offset else None,
            rows=rows,
            columns=columns,
        )

    @cached_property
    def struct(self) -> Struct:
        """What kernels are handed; valid as long as these strips are."""
        pointers = (None if one is None else one.data_ptr() for one in (self.codes, self.scales, self.offsets))
        return Struct(*pointers, rows=self.rows, groups=self.codes.shape[1], kind=self.kind.number)

    @cached_property
    def address(self) -> int:
        """Where `struct` lies."""
        return ctypes.addressof(self.struct)

    def run(self, start: int, rows: int) -> Strips | None:
        """Only `rows` rows from `start`, in the same memory; None where they do not begin and end with strips."""
        end = start + rows
        if start % LANES or (end % LANES and end != self.rows):
            return None
        strips = slice(start // LANES, -(-end // LANES))
        parts = {
            name: None if whole is None else whole[strips]
            for name, whole in (("scales", self.scales), ("offsets", self.offsets))
        }
        return Strips(kind=self.kind, codes=self.codes[strips], rows=rows, columns=self.columns, **parts)

    def weights(self) -> Tensor:
        """The weights (R, C) in float32: the layout read backwards."""
        kind, (strips, groups, _) = self.kind, self.codes.shape
        if kind.dtype is not None:
            w = self.codes.view(kind.dtype).view(strips, groups * GROUP, LANES).transpose(1, 2).float()
            return w.flatten(0, 1)[: self.rows, : self.columns]
        assert self.scales is not None
        shape = (strips, LANES, -1, kind.group)
        w = (self.levels().view(shape).float() - kind.centre) * self.scales.transpose(1, 2)[..., None].float()
        if self.offsets is not None:
            w = w + self.offsets.transpose(1, 2)[..., None].float()
        return w.flatten(2).flatten(0, 1)[: self.rows, : self.columns]

    def levels(self) -> Tensor:
        """The codes q, uint8 (S x 16, C), rows in order again."""
        strips, groups, _ = self.codes.shape
        if self.kind.bits == 8:
            fours = self.codes.view(strips, groups, -1, LANES, 4)
        else:
            halves = self.codes[..., :HALVES].reshape(strips, groups, -1, LANES * 4)
            fours = torch.stack((halves & 15, halves >> 4), dim=3).flatten(2, 3)
            for bit in range(4, self.kind.bits):
                start = HALVES + (bit - 4) * BITS
                packed = self.codes[..., start : start + BITS].reshape(strips, groups, 8, 8, 1)
                fours = fours | ((packed >> PLACES & 1) << bit).flatten(3)
            fours = fours.view(strips, groups, 8, LANES, 4)
        return fours.permute(0, 3, 1, 2, 4).reshape(strips * LANES, groups * GROUP)


def narrowest(w_RC: Tensor) -> torch.dtype:
    """The dtype of fewest bytes that holds every one of these plain weights as it is."""
    for dtype in (torch.bfloat16, torch.float16):
        if w_RC.dtype == torch.float32 and all(
            torch.equal(w_RC[slab].to(dtype).float(), w_RC[slab]) for slab in slabs(*w_RC.shape)
        ):
            return dtype
    return w_RC.dtype


@dataclass(frozen=True, kw_only=True, eq=False)
class Rounded:
    """codes int8 (N, G, 32), scales float32 (N, G): x = scale * code."""

    codes_NG: Tensor
    scales_NG: Tensor


def rounded(x_NC: Tensor) -> Rounded:
    """Activations in int8, a scale for each group of 32 columns; the last group is padded with zeros."""
    padded = torch.nn.functional.pad(x_NC.float(), (0, -x_NC.shape[1] % GROUP))
    groups = padded.view(len(x_NC), -1, GROUP)
    most = groups.abs().amax(2)
    # `127 / most` would be 127 times the reciprocal, rounded twice.
    inverse = torch.where(most > 0, torch.div(torch.full_like(most, 127), most), 0.0)
    return Rounded(codes_NG=(groups * inverse[..., None]).round().to(torch.int8), scales_NG=most / 127)


def _padded(numbers_R: Tensor) -> Tensor:
    """Zeros below, to whole strips."""
    left = -len(numbers_R) % LANES
    return numbers_R if not left else torch.cat((numbers_R, numbers_R.new_zeros(left, *numbers_R.shape[1:])))


def _interleaved(q_RC: Tensor, kind: Kind) -> Tensor:
    """Codes (16 n, C) -> (n, G, bytes of a group)."""
    fours = q_RC.view(-1, LANES, q_RC.shape[1] // GROUP, 8, 4).permute(0, 2, 3, 1, 4)  # n, G, 8, lane, 4
    if kind.bits == 8:
        return fours.flatten(2)
    low = fours & 15
    parts = [(low[:, :, 0::2] | low[:, :, 1::2] << 4).flatten(2)]
    for bit in range(4, kind.bits):
        eights = (fours >> bit & 1).reshape(*fours.shape[:2], BITS, 8)
        parts.append((eights << PLACES).sum(-1, dtype=torch.uint8))
    return torch.cat(parts, -1)


def _across(numbers_RG: Tensor) -> Tensor:
    """(R, G) -> (S, G, 16)."""
    return _padded(numbers_RG).view(-1, LANES, numbers_RG.shape[1]).transpose(1, 2)
