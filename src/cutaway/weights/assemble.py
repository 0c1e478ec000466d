"""A module from its spec and a source of numbers: built without memory, checked, then filled tensor by tensor.

Read next: weights/huggingface.py
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cutaway.base.errors import BadInput
from cutaway.nn.embedding import Embedding
from cutaway.nn.linear import Linear
from cutaway.nn.quantised import QuantisedEmbedding, QuantisedLinear
from cutaway.ops.packed import Packed
from cutaway.weights.architectures.architecture import Model, Spec

Shape = tuple[int, ...]
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}


class Source(Protocol):
    """Where a model's numbers come from, asked for by our own parameter names ("blocks.3.mixer.query.weight")."""

    def check(self, expected: Mapping[str, Shape]) -> None:
        """Raises BadInput, naming file and tensor, where one is missing, misshapen or unexpected. Reads no data."""
        ...

    def dtype(self) -> torch.dtype:
        """The precision that most numbers have."""
        ...

    def read(self, name: str) -> Tensor | Packed:
        """One parameter, in the source's own precision, on the CPU, or a matrix that stays in its blocks. Both may
        share memory with the file's mapping."""
        ...


def parameters_of(spec: Spec) -> dict[str, Shape]:
    """Name and shape of each parameter that the spec's module has, whatever its size, without making room for it."""
    small = hollow(_each_kind_once(spec))
    shapes = {name: tuple(parameter.shape) for name, parameter in small.named_parameters()}
    for path, blocks in _stacks(spec):
        kinds = tuple(dict.fromkeys(blocks))
        inside: dict[str, dict[str, Shape]] = {}
        for name in [name for name in shapes if name.startswith(path)]:
            kind, _, rest = name.removeprefix(path).partition(".")
            inside.setdefault(kind, {})[rest] = shapes.pop(name)
        for layer, block in enumerate(blocks):
            shapes |= {f"{path}{layer}.{rest}": shape for rest, shape in inside[str(kinds.index(block))].items()}
    return shapes


def _is_stack(held: Any) -> bool:
    return isinstance(held, tuple) and bool(held) and all(map(is_dataclass, held))


def _stacks(spec: Any, path: str = "") -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The tuples of blocks in a value, each behind the path of the list that holds their modules ("blocks.")."""
    for field in fields(spec):
        held = getattr(spec, field.name)
        if _is_stack(held):
            yield f"{path}{field.name}.", held
        elif is_dataclass(held):
            yield from _stacks(held, f"{path}{field.name}.")


def _each_kind_once(spec: Any) -> Any:
    """The value with its tuples of blocks cut down to those that differ."""
    cut = {}
    for field in fields(spec):
        held = getattr(spec, field.name)
        if _is_stack(held):
            cut[field.name] = tuple(dict.fromkeys(held))
        elif is_dataclass(held) and any(_stacks(held)):
            cut[field.name] = _each_kind_once(held)
    return replace(spec, **cut)


class Unfilled(TorchFunctionMode):
    """Skips random starting values: on the "meta" device they are nothing, and asking for them loads sympy (2 s)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func is Tensor.normal_ else func(*args, **(kwargs or {}))


def hollow(spec: Spec) -> Model:
    """The spec's module with shapes but without numbers, on the "meta" device."""
    with torch.device("meta"), Unfilled():
        return spec.build()


def assemble(spec: Spec, source: Source, dtype: torch.dtype | None, device: str) -> Model:
    """The spec's module with the source's numbers, in evaluation mode.

    `dtype=None`: float32 on the CPU, where its products are the fastest, and the source's own precision elsewhere.
    Beyond the module itself one tensor at a time is held. On the "meta" device nothing is read but headers.
    """
    expected = parameters_of(spec)
    source.check(expected)
    dtype = dtype or (torch.float32 if device == "cpu" else source.dtype())
    module = hollow(spec)
    for name in expected:
        place(module, name, source, dtype, device)
    assert device == "meta" or not any(tensor.is_meta for tensor in module.state_dict().values())
    return module.eval()


def place(module: nn.Module, name: str, source: Source, dtype: torch.dtype, device: str) -> None:
    """Puts one parameter where its name says."""
    owner, _, leaf = name.rpartition(".")
    part = module.get_submodule(owner)
    learns = getattr(part, leaf).requires_grad
    if device == "meta":
        setattr(part, leaf, nn.Parameter(getattr(part, leaf).to(dtype), requires_grad=learns))
        return
    held = source.read(name)
    if isinstance(held, Packed):
        module.set_submodule(owner, packed_part(part, held.to(device), dtype))
        return
    # A copy in any case: the mapping is closed when loading ends, and training writes in place.
    numbers = held.to(device=device, dtype=dtype, copy=True).contiguous()
    setattr(part, leaf, nn.Parameter(numbers, requires_grad=learns))


def packed_part(part: nn.Module, weight: Packed, dtype: torch.dtype) -> nn.Module:
    """What takes the place of a linear map or a token table whose weight stays packed."""
    if isinstance(part, Embedding):
        return QuantisedEmbedding(weight, dtype)
    assert isinstance(part, Linear), type(part)
    return QuantisedLinear(weight, part.bias)


def as_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A precision by its name or as it is. Raises BadInput for one that a model cannot compute in."""
    if dtype is None or dtype in DTYPES.values():
        return dtype  # type: ignore[return-value]
    if not isinstance(dtype, str) or dtype.removeprefix("torch.") not in DTYPES:
        raise BadInput(f"{dtype} is no precision to compute in (known: {', '.join(DTYPES)})", source="dtype")
    return DTYPES[dtype.removeprefix("torch.")]
