"""The parameters of a module by name, whether they are plain tensors or packed matrices.

Read next: ops/packed.py, nn/quantised.py
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.finite import finite
from cutaway.ops.packed import Packed


def held(module: nn.Module, name: str) -> Tensor | Packed:
    """What a module holds under "blocks.3.mixer.query.weight". Raises AttributeError where there is no such thing."""
    owner, _, leaf = name.rpartition(".")
    part = module.get_submodule(owner)
    packed = getattr(part, "packed", None)
    if leaf == "weight" and isinstance(packed, Packed):
        return packed
    return part.get_parameter(leaf)


def plain(numbers: Tensor | Packed) -> Tensor:
    """The numbers themselves; a packed matrix is expanded to float32."""
    return dequantise(numbers.blocks, numbers.format) if isinstance(numbers, Packed) else numbers.detach()


def unsound(module: nn.Module) -> Iterator[str]:
    """The names of those parameters that hold NaN or infinities. Reads all of them once and unpacks none."""
    for name, part in module.named_modules():
        packed = getattr(part, "packed", None)
        if isinstance(packed, Packed) and not finite(packed.blocks, packed.format):
            yield f"{name}.weight"
        for leaf, parameter in part.named_parameters(recurse=False):
            numbers = parameter.detach()
            # The extremes of a tensor with NaN are NaN, and no mask as large as the tensor is made on the way.
            if numbers.numel() and not all(bool(extreme.isfinite()) for extreme in numbers.aminmax()):
                yield f"{name}.{leaf}".lstrip(".")


def refuse_unsound(module: nn.Module, source: str | None) -> None:
    """Raises BadInput, naming `source` and the first of them, where parameters hold NaN or infinities."""
    bad = list(unsound(module))
    if bad:
        others = f" (and {len(bad) - 3} others)" if len(bad) > 3 else ""
        raise BadInput(f"NaN or infinite numbers in {', '.join(bad[:3])}{others}", source=source, field="weights")
