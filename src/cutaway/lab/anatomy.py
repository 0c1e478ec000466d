"""A model taken apart: a tree of its parts with their sizes, arithmetic, cache, formats and the source of each.

Sizes are counted on the module as it stands in memory; arithmetic and cache are what the parts' values say of
themselves (`cost`, `streams`), so the root's numbers are those of the model's `cost(1, length)`.
A part's own FLOPs are those that none of its children does: an attention's scores and weighted sums.
Read next: nn/cost.py, lab/tensors.py, cli/open.py
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.lab.tensors import held
from cutaway.models.decoder import DecoderModel
from cutaway.models.encoder import EncoderModel
from cutaway.nn.embedding import Embedding
from cutaway.nn.quantised import QuantisedEmbedding
from cutaway.nn.stream import Stream
from cutaway.ops.packed import Packed

PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Part:
    """`path` is what `module.get_submodule` takes, "" for the model. `share`: of all parameters, 0 to 1.

    `flops`: forward, for one token behind `length` - 1 others. `cache_bytes`: kept per further token; `kept_bytes`:
    kept for a sequence of `length` tokens (less per token under a window). `bytes`: held in memory. `formats`: of all
    tensors below. `file` is relative to the package, "" for code from elsewhere.
    """

    path: str
    kind: str
    value: Any
    shape: tuple[int, ...] | None
    parameters: int
    share: float
    flops: int
    cache_bytes: float
    kept_bytes: int
    bytes: int
    formats: tuple[str, ...]
    file: str
    line: int
    children: tuple[Part, ...] = ()

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def format(self) -> str:
        """The one format, or "mixed"; "" without tensors."""
        return "mixed" if len(self.formats) > 1 else "".join(self.formats)

    @property
    def own_flops(self) -> int:
        return self.flops - sum(child.flops for child in self.children)

    @property
    def is_container(self) -> bool:
        """Whether it only holds other parts (a list of blocks, the norms around a part)."""
        return self.value is None and bool(self.children)

    def everything(self) -> Iterator[Part]:
        """This part and all below it."""
        yield self
        for child in self.children:
            yield from child.everything()

    def find(self, path: str) -> Part:
        """The part at `path`. Raises BadInput with the nearest path there is."""
        known = {part.path: part for part in self.everything() if part.path}
        if path in known:
            return known[path]
        raise BadInput(f'no part is called "{path}"{did_you_mean(path, known)}', field="part")

    def like(self, other: Part) -> bool:
        """Whether both are alike in value, sizes and formats, all the way down; where they stand does not matter."""
        return self._likeness() == other._likeness()

    def _likeness(self) -> tuple[Any, ...]:
        below = tuple((child.name, child._likeness()) for child in self.children)
        return self.kind, self.value, self.shape, self.formats, self.bytes, self.flops, below


def anatomy(
    module: DecoderModel | EncoderModel, *, length: int | None = None, dtype: torch.dtype = torch.float32
) -> Part:
    """The tree of a model. `length`: tokens of context that costs are stated at, the model's own if None.

    `dtype`: what it computes in, which the cache is held in.
    """
    length = module.spec.length if length is None else length
    if not 1 <= length <= module.spec.length:
        raise BadInput(f"must be from 1 to the model's {module.spec.length}, is {length}", field="length")
    return _Knife(module, length, dtype).cut(module, "")


class _Knife:
    """Walks a model; holds what is the same for all its parts."""

    def __init__(self, model: DecoderModel | EncoderModel, length: int, dtype: torch.dtype):
        self.model, self.dim, self.length, self.dtype = model, model.spec.dim, length, dtype
        self.total = sum(_learned(part) for part in model.modules() if not isinstance(part, Packed))

    def cut(self, module: nn.Module, path: str) -> Part:
        children = tuple(
            self.cut(child, f"{path}.{name}".lstrip("."))
            for name, child in module.named_children()
            if not isinstance(child, Packed)  # a packed matrix is its owner's weight, as a plain one is
        )
        tensors = held(module)
        value = _value(module)
        parameters = _learned(module) + sum(child.parameters for child in children)
        per_token, kept = self._cache(value, children)
        own = tuple(tensor.format for tensor in tensors)
        formats = dict.fromkeys((*own, *(format for child in children for format in child.formats)))
        file, line = source(type(module))
        return Part(
            path=path,
            kind=type(module).__name__,
            value=value,
            shape=max((tensor.shape for tensor in tensors), key=math.prod, default=None),
            parameters=parameters,
            share=parameters / self.total if self.total else 0.0,
            flops=self._flops(module, value, children),
            cache_bytes=per_token,
            kept_bytes=kept,
            bytes=sum(tensor.bytes for tensor in tensors) + sum(child.bytes for child in children),
            formats=tuple(sorted(formats)),
            file=file,
            line=line,
            children=children,
        )

    def _flops(self, module: nn.Module, value: Any, children: tuple[Part, ...]) -> int:
        if module is self.model:
            return value.cost(1, self.length).flops
        shapes = [tensor.shape for tensor in held(module)]
        if value is not None:
            # A norm of heads is as wide as a head, not as the model.
            width = shapes[0][0] if shapes and len(shapes[0]) == 1 and not children else self.dim
            return value.cost(width, 1, self.length).flops
        if children:
            return sum(child.flops for child in children)
        scores = module is self.model.embedding and self.model.spec.tied
        if isinstance(module, Embedding | QuantisedEmbedding) and not scores:
            return 0  # rows are looked up; only a tied table is also multiplied, as the head
        return sum(2 * math.prod(shape) for shape in shapes if len(shape) == 2)

    def _cache(self, value: Any, children: tuple[Part, ...]) -> tuple[float, int]:
        """Bytes per further token, and for a sequence of the stated length. An encoder keeps nothing."""
        if isinstance(self.model, EncoderModel):
            return 0.0, 0
        if value is self.model.spec or not callable(getattr(value, "streams", None)):
            return sum(child.cache_bytes for child in children), sum(child.kept_bytes for child in children)
        streams: tuple[Stream, ...] = value.streams(self.dim)
        each = [
            math.prod(stream.shape) * stream.held_in(self.dtype).itemsize / stream.every
            for stream in streams
            if stream.per == "token"
        ]
        return sum(each), sum(stream.bytes(self.length, self.dtype) for stream in streams)


def _learned(module: nn.Module) -> int:
    return sum(tensor.count for tensor in held(module) if tensor.learned)


def _value(module: nn.Module) -> Any:
    """The frozen value that built a module, if one did."""
    spec = getattr(module, "spec", None)
    return spec if is_dataclass(spec) and not isinstance(spec, type) else None


def source(kind: type) -> tuple[str, int]:
    """The file, relative to the package, and the line where a class is written; ("", 0) if it is not the package's."""
    try:
        file = Path(inspect.getsourcefile(kind) or "").resolve()
        line = inspect.getsourcelines(kind)[1]
    except (OSError, TypeError):
        return "", 0
    if not file.is_relative_to(PACKAGE.resolve()):
        return "", 0
    return file.relative_to(PACKAGE.resolve()).as_posix(), line


def architecture(value: Any) -> dict[str, Any]:
    """The plain fields of a value (vocab, dim, length ...), those that hold no other value."""
    plain = {field.name: getattr(value, field.name) for field in fields(value)}
    return {name: held for name, held in plain.items() if held is None or isinstance(held, (bool, int, float, str))}
