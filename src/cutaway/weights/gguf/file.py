"""What is in a GGUF file: its metadata and its tensors, which stay on disk until someone looks at them.

Read next: weights/gguf/reader.py
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GgufTensor:
    """One tensor: where its bytes lie in the mapped file.

    `shape` is in torch's order, slowest first (GGUF lists the fastest first). `format` is a name of
    ops/blocks/format.py, or of weights/gguf/types.py where Cutaway cannot turn it into numbers. `offset` counts bytes
    from the beginning of the file.
    """

    name: str
    shape: tuple[int, ...]
    format: str
    offset: int
    bytes: int
    file: np.memmap = field(repr=False)

    @property
    def data(self) -> np.ndarray:
        """Exactly its bytes: a flat, read-only uint8 view of the mapped file, read when it is looked at."""
        return self.file[self.offset : self.offset + self.bytes]

    def to_torch(self) -> torch.Tensor:
        """The same view for torch: uint8, one row for each row of the tensor (all dimensions but the last kept).

        Copy before you change it: it is the file, mapped read-only, and a write to it ends the process.
        """
        import torch

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            flat = torch.from_numpy(self.data)
        return flat.view(*self.shape[:-1], -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class GgufFile:
    """A GGUF file as it was found. `types` names the type of each metadata value: "uint32", "array string" ..."""

    path: Path
    version: int
    alignment: int
    metadata: dict[str, Any] = field(repr=False)
    types: dict[str, str] = field(repr=False)
    tensors: dict[str, GgufTensor] = field(repr=False)
