"""How weights are rounded to 8 or 4 bits in the plainest way, as a value, and the names that a command line has for it.

    symmetric    s = max |w| / (2^(bits-1) - 1)        w' = s q         q = round(w / s)
    asymmetric   s = (max w - min w) / (2^bits - 1)    w' = s (q - z)   z = round(-min w / s),  q = round(w / s) + z
(LLM.int8(), Dettmers et al. 2022, arXiv 2208.07339, section 2: "absmax" and "zeropoint".) What differs besides is who
shares a scale: all weights of a matrix, a row of it, or a group of so many columns of a row.
No tensors.   Read next: ops/blocks/absmax.py
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.ops.blocks.format import FORMATS, PLAIN, BlockFormat

WRITTEN = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0")  # those of GGUF's formats that we round to
DTYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "fp32": "f32", "fp16": "f16"}
WAYS = ("tensor", "row", "group=N", "asymmetric")


@dataclass(frozen=True, kw_only=True)
class Absmax:
    """`share`: who has a scale in common; a number is the most columns of a group (a row of 576 has no groups of 128:
    it is cut into equal ones of 96)."""

    bits: Literal[4, 8] = 8
    share: Literal["tensor", "row"] | int = "row"
    symmetric: bool = True

    def __post_init__(self) -> None:
        if self.bits not in (4, 8):
            raise BadInput(f"must be 4 or 8, is {self.bits!r}", field="Absmax.bits")
        if self.share not in ("tensor", "row") and (type(self.share) is not int or self.share < 2):
            raise BadInput(f'must be "tensor", "row" or a number from 2, is {self.share!r}', field="Absmax.share")

    @property
    def levels(self) -> int:
        """The largest q: 127 or 7 of a symmetric one, 255 or 15 of the other."""
        return 2 ** (self.bits - 1) - 1 if self.symmetric else 2**self.bits - 1

    @property
    def name(self) -> str:
        """As it is written on a command line."""
        share = self.share if isinstance(self.share, str) else f"group={self.share}"
        return f"int{self.bits}:{share}{'' if self.symmetric else ',asymmetric'}"

    def format(self, columns: int) -> BlockFormat:
        """The blocks of a matrix with so many columns: a block is a group, or a row. Raises BadInput for a row of an
        odd number of weights in 4 bits, two of which share a byte."""
        group = columns if isinstance(self.share, str) else _divisor(columns, self.share)
        if self.bits == 4 and group % 2:
            raise BadInput(f"{columns} columns are no whole number of bytes in 4 bits", field="weights")
        return _format(self.bits, group, self.symmetric)


def _divisor(columns: int, most: int) -> int:
    """The largest even number up to `most` that divides a row; an odd one where there is none."""
    found = [size for size in range(1, min(most, columns) + 1) if columns % size == 0]
    return max([size for size in found if size % 2 == 0] or found)


@lru_cache(maxsize=256)  # one value for one format: matrices of the same one can be joined (ops/packed.py)
def _format(bits: int, group: int, symmetric: bool) -> BlockFormat:
    head = 2 if symmetric else 4
    return BlockFormat(name=f"int{bits}{'' if symmetric else 'z'}", weights=group, bytes=head + group * bits // 8)


def precision_named(text: str) -> Absmax | BlockFormat:
    """`int8`, `int8:tensor`, `int4:group=64`, `int4:group=64,asymmetric`, a GGUF format that we write, a plain dtype.

    Raises BadInput for anything else, with what was probably meant.
    """
    name, colon, rest = text.strip().lower().partition(":")
    plain = DTYPES.get(name, name)
    if plain in PLAIN and not colon:
        return PLAIN[plain]
    if name in WRITTEN and not colon:
        return FORMATS[name]
    if name not in ("int8", "int4"):
        known = ["int8", "int4", *WRITTEN, *DTYPES, *PLAIN]
        raise BadInput(f'no precision is called "{text}"{did_you_mean(name, known)}', field="weights")
    share: Literal["tensor", "row"] | int = "row"
    symmetric = True
    for way in rest.split(",") if colon else ():
        size = way.removeprefix("group=")
        if way in ("tensor", "row"):
            share = way  # type: ignore[assignment]
        elif way != size and size.isdecimal() and len(size) < 7:
            share = int(size)
        elif way in ("asymmetric", "symmetric"):
            symmetric = way == "symmetric"
        else:
            said = f'"{way}" says nothing of {name}; it takes {", ".join(WAYS)}'
            raise BadInput(f"{said}{did_you_mean(way, WAYS)}", field="weights")
    return Absmax(bits=8 if name == "int8" else 4, share=share, symmetric=symmetric)
