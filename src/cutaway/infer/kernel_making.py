"""What a part in a file of its own asks of the plan that is being made: its lists, its memory, the weights it notes.

N rows of a pass · D model dim.   Read next: infer/kernel_plan.py (which is it), infer/kernel_experts.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from cutaway.nn.block import Norms
from cutaway.nn.norms import LayerNormModule, RMSNormModule
from cutaway.nn.quantised import Fan
from cutaway.ops.cpu.list import Laid, Operations
from cutaway.ops.cpu.norm import Norm


class Making(Protocol):
    """`rows`: N of the pass; `x_ND`: the residual; `int8`: whether packed matrices are multiplied by bytes."""

    rows: int
    int8: bool
    x_ND: Tensor

    def operations(self) -> Operations:
        """The list that stands last."""
        ...

    def noted(self, module: nn.Module, name: str) -> Tensor:
        """A tensor of a module, of which from now on it is asked whether it is still the same."""
        ...

    def held(self, module: nn.Module, name: str) -> Tensor:
        """The same in float32: where it lies, or a copy."""
        ...

    def floats(self, name: str, columns: int, rows: int | None = None) -> Tensor:
        """Room that all layers share: (rows, columns), as many rows as the pass has if None."""
        ...

    def laid(self, columns: int, maps: Sequence[Any], rows: int | None = None, name: str = "") -> Laid:
        """Room for what products with these maps read; all layers share what is of one name."""
        ...

    def lay(self, norm: nn.Module | None, laid: Laid) -> None:
        """The residual as products read it, normed where there is a norm."""
        ...

    def norm(self, norm: nn.Module, told: Norm, width: int | None = None) -> None:
        """A norm with its weights; of rows of the model's width if None."""
        ...

    def products(self, fan: Fan | None, maps: Sequence[Any], laid: Laid, out_NR: Tensor) -> None:
        """Each map's outputs side by side."""
        ...

    def product(self, one: Any, laid: Laid, out_NR: Tensor, *, add: bool) -> None:
        """One map's outputs, or the sum of them and what is there."""
        ...

    def finish(self, one: nn.Module, laid: Laid, norms: Norms) -> None:
        """A part's last map, its norm, and the sum with the residual."""
        ...

    def close(self, y_ND: Tensor, norms: Norms) -> None:
        """The same behind the last map: `y_ND` is what the part made."""
        ...


def settings(norm: nn.Module) -> tuple[float, float, bool]:
    """A norm's eps, its offset, and whether the mean is taken off."""
    if isinstance(norm, RMSNormModule):
        return norm.spec.eps, norm.spec.offset, False
    assert isinstance(norm, LayerNormModule)
    return norm.spec.eps, 0.0, True
