"""A Hugging Face folder (config.json, model.safetensors) to a model and back.

Nothing is made room for before names and shapes have been checked against the headers, and those against the files.
Read next: weights/assemble.py, weights/architectures/table.py
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.base.device import pick_device
from cutaway.base.errors import BadInput, NotFound
from cutaway.weights.architectures.architecture import Architecture, Model, Spec
from cutaway.weights.architectures.place import Place, place_of
from cutaway.weights.architectures.table import architecture_of
from cutaway.weights.assemble import Shape, as_dtype, assemble
from cutaway.weights.checkpoint import Checkpoint
from cutaway.weights.fields import Fields

CONFIG = "config.json"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# Tables and masks that older programs saved along with the parameters: they can be worked out.
WORKED_OUT = re.compile(r"(^|\.)(rotary_emb\.(original_)?inv_freq|attn\.bias|attn\.masked_bias|position_ids)$")


def read_spec(folder: Path) -> tuple[Architecture, Spec]:
    """What config.json describes. Raises NotFound without one, BadInput for one that cannot be built."""
    path = folder / CONFIG
    if not path.is_file():
        raise NotFound(f"{folder}: no {CONFIG}")
    fields = Fields.of_file(path)
    architecture = architecture_of(fields)
    spec = fields.told(lambda: architecture.spec(fields))
    return architecture.of(spec), spec


def read_folder(
    folder: str | Path, dtype: torch.dtype | str | None = None, device: str | None = None
) -> tuple[Model, Spec]:
    """The model of a folder, in evaluation mode, and its spec.

    `dtype=None`: float32 on the CPU, the checkpoint's own precision elsewhere; `device=None`: cuda, mps, then cpu.
    Raises NotFound for missing files, BadInput for broken, hostile or unknown ones.
    """
    folder, wanted, device = Path(folder), as_dtype(dtype), pick_device(device)
    architecture, spec = read_spec(folder)
    with Checkpoint(folder) as checkpoint:
        if architecture.fit is not None:
            spec = architecture.fit(spec, checkpoint.entries)
        return assemble(spec, FolderSource(checkpoint, architecture), wanted, device), spec


class FolderSource:
    """The tensors of a Hugging Face checkpoint by our names. Implements `weights.assemble.Source`."""

    def __init__(self, checkpoint: Checkpoint, architecture: Architecture):
        self.checkpoint, self.architecture = checkpoint, architecture
        self.names = architecture.names_in(checkpoint.entries)
        # A model that was saved without its head leaves out the name of the trunk.
        whole = any(name.startswith(architecture.prefix) for name in checkpoint.entries)
        self._drop = "" if whole else architecture.prefix
        self._spelt = {_today(name, architecture.older): name for name in checkpoint.entries}

    def place(self, name: str) -> Place:
        return place_of(self.names, name)

    def held(self, name: str) -> str:
        """What the file calls one of our parameters."""
        today = self.place(name).name.removeprefix(self._drop)
        return self._spelt.get(today, today)

    def dtype(self) -> torch.dtype:
        return DTYPES[self.checkpoint.entries[self.held("embedding.weight")].dtype]

    def check(self, expected: Mapping[str, Shape]) -> None:
        entries, config = self.checkpoint.entries, self.checkpoint.folder / CONFIG
        rows = Counter(self.held(name) for name in expected)
        for name, shape in expected.items():
            held, place = self.held(name), self.place(name)
            wanted = place.shape(shape)
            if place.stacked:
                wanted = (rows[held] // place.part[1], *wanted)
            if held not in entries:
                raise BadInput(f"the tensor {held} is missing (expected shape {wanted})", source=self.checkpoint.folder)
            self._check_shape(held, wanted, config)
        unknown = sorted(entries.keys() - {self.held(name) for name in expected})
        unknown = [name for name in unknown if not self._is_copy(name, expected) and not self._is_surplus(name)]
        if unknown:
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            message = f"this tensor{more} has no place in the model that {CONFIG} describes"
            raise BadInput(message, source=self.checkpoint.path_of(unknown[0]), field=unknown[0][:200])

    def read(self, name: str) -> Tensor:
        place = self.place(name)
        assert not place.paired, "no Hugging Face checkpoint holds heads in llama.cpp's order"
        return place.take(self.checkpoint.tensor(self.held(name)), head_dim=1)

    def _check_shape(self, held: str, wanted: Shape, config: Path) -> None:
        entry, path = self.checkpoint.entries[held], self.checkpoint.path_of(held)
        if entry.shape != wanted:
            message = f"has shape {entry.shape}, {config.name} asks for {wanted}"
            raise BadInput(message, source=path, field=held)
        if entry.dtype not in DTYPES:
            known = ", ".join(DTYPES)
            raise BadInput(f"numbers of kind {entry.dtype} are not read here (known: {known})", source=path, field=held)

    def _is_surplus(self, held: str) -> bool:
        """Whether a tensor may be passed over: it can be worked out, or another part of the model is made of it."""
        return WORKED_OUT.search(held) is not None or held.startswith(self.architecture.passed_over)

    def _is_copy(self, held: str, expected: Mapping[str, Shape]) -> bool:
        """Whether this is one of our parameters once more, as some programs save a tied head. Another one is refused.

        Names are compared without the trunk's, which a file may leave out.
        """
        copies = {name.removeprefix(self._drop): ours for name, ours in self.architecture.copied().items()}
        ours = copies.get(_today(held, self.architecture.older))
        if ours is None or ours not in expected:
            return False
        self._check_shape(held, self.place(ours).shape(expected[ours]), self.checkpoint.folder / CONFIG)
        if not torch.equal(self.checkpoint.tensor(held), self.checkpoint.tensor(self.held(ours))):
            said = "the token table" if ours == "embedding.weight" else self.held(ours)
            message = f"differs from {said}, which {CONFIG} says it is (tie_word_embeddings)"
            raise BadInput(message, source=self.checkpoint.path_of(held), field=held)
        return True


def _today(name: str, older: Mapping[str, str]) -> str:
    """A tensor's name as it is written today."""
    end = next((end for end in older if name.endswith(end)), None)
    return name if end is None else name.removesuffix(end) + older[end]


def config_of(folder: Path) -> dict[str, Any]:
    """A folder's config.json as plain data, for fields that say nothing about the arithmetic."""
    return dict(Fields.of_file(folder / CONFIG).data)
