"""A GGUF file to a model and back. Weights that arrive in blocks stay in blocks: they are mapped, not expanded.

R rows (outputs) · C columns (inputs).   Read next: weights/gguf/config.py, weights/assemble.py, nn/quantised.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cutaway.base.device import pick_device
from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.packed import Packed
from cutaway.text.tokenizer import Tokenizer
from cutaway.weights.architectures.architecture import Architecture
from cutaway.weights.architectures.place import Place, halves, place_of
from cutaway.weights.assemble import Shape, as_dtype, assemble
from cutaway.weights.gguf.config import ROPE_FREQUENCIES, architecture_named, llama3_scaling, read_config
from cutaway.weights.gguf.file import GgufFile, GgufTensor
from cutaway.weights.gguf.reader import read_gguf

NO_TOKENIZER = "no_vocab"  # what llama.cpp says where there is none
PLAIN = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64}


def read_model(
    path: str | Path, dtype: torch.dtype | str | None = None, device: str | None = None
) -> tuple[DecoderModel, Tokenizer | None]:
    """The model of a .gguf file, in evaluation mode, and its tokenizer (None if the file has none).

    `dtype`: what activations are computed in and unquantised weights are turned to; None is float32 on the CPU.
    Raises BadInput for a broken, hostile or unknown file.
    """
    path, wanted, device = Path(path), as_dtype(dtype), pick_device(device)
    file = read_gguf(path)
    architecture = architecture_named(file.metadata, path)
    spec = read_spec(file, architecture)
    module = assemble(spec, GgufSource(file, architecture, spec), wanted, device)
    assert isinstance(module, DecoderModel)  # llama.cpp's encoders are not read here
    has_tokenizer = file.metadata.get("tokenizer.ggml.model", NO_TOKENIZER) != NO_TOKENIZER
    return module, Tokenizer.from_gguf(file.metadata, source=path) if has_tokenizer else None


def read_spec(file: GgufFile, architecture: Architecture) -> Decoder:
    """What the file's metadata describe."""
    shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
    fields = read_config(file.metadata, shapes, architecture, Path(file.path))
    spec = fields.told(lambda: architecture.spec(fields))
    if ROPE_FREQUENCIES not in file.tensors:
        return spec
    factors_W = plain_tensor(file.tensors[ROPE_FREQUENCIES], Path(file.path))
    return with_scaling(spec, factors_W, Path(file.path))


def with_scaling(spec: Decoder, factors_W: Tensor, path: Path) -> Decoder:
    """The decoder whose rotations are stretched by the divisors of `rope_freqs.weight`."""
    blocks = []
    for block in spec.blocks:
        mixer = block.mixer
        if not isinstance(mixer, GroupedQuery) or mixer.rope is None:
            raise BadInput("but this architecture does not rotate", source=path, field=ROPE_FREQUENCIES)
        rope = replace(mixer.rope, scaling=llama3_scaling(factors_W, mixer.rope, path))
        blocks.append(replace(block, mixer=replace(mixer, rope=rope)))
    return replace(spec, blocks=tuple(blocks))


def plain_tensor(tensor: GgufTensor, path: Path) -> Tensor:
    """The numbers of a tensor; those in blocks come expanded to float32. A view of the mapping where they are plain."""
    if tensor.format in PLAIN:
        return tensor.to_torch().view(PLAIN[tensor.format])
    if tensor.format not in FORMATS:
        message = f"numbers of kind {tensor.format} are not read here (known: {', '.join([*PLAIN, *FORMATS])})"
        raise BadInput(message, source=path, field=tensor.name)
    return dequantise(tensor.to_torch(), FORMATS[tensor.format])


class GgufSource:
    """The tensors of a GGUF file by our names. Implements `weights.assemble.Source`."""

    def __init__(self, file: GgufFile, architecture: Architecture, spec: Decoder):
        assert architecture.gguf_names is not None
        self.file, self.names, self.spec = file, architecture.gguf_names, spec
        self.path = Path(file.path)

    def place(self, name: str) -> Place:
        return place_of(self.names, name)

    def dtype(self) -> torch.dtype:
        """Of the first plain matrix; float16 where all are in blocks."""
        found = [PLAIN[one.format] for one in self.file.tensors.values() if one.format in PLAIN and len(one.shape) == 2]
        return found[0] if found else torch.float16

    def check(self, expected: Mapping[str, Shape]) -> None:
        tensors = self.file.tensors
        for name, shape in expected.items():
            place = self.place(name)
            wanted = place.shape(shape)
            if place.name not in tensors:
                raise BadInput(f"the tensor is missing (expected shape {wanted})", source=self.path, field=place.name)
            if tensors[place.name].shape != wanted:
                message = f"has shape {tensors[place.name].shape}, the metadata ask for {wanted}"
                raise BadInput(message, source=self.path, field=place.name)
        known = {self.place(name).name for name in expected} | {ROPE_FREQUENCIES}
        unknown = [name for name in tensors if name not in known]
        if unknown:
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            message = f"this tensor{more} has no place in the model that the metadata describe"
            raise BadInput(message, source=self.path, field=unknown[0][:200])

    def read(self, name: str) -> Tensor | Packed:
        place = self.place(name)
        tensor = self.file.tensors[place.name]
        mixer = self.spec.blocks[0].mixer
        head_dim = getattr(mixer, "head_dim", 1)
        # Only matrices are multiplied from their blocks; a vector in blocks is expanded.
        if tensor.format not in FORMATS or len(tensor.shape) != 2 or name == "positions.weight":
            return place.take(plain_tensor(tensor, self.path), head_dim)
        return Packed(blocks=rearranged(tensor.to_torch(), place, head_dim), format=FORMATS[tensor.format])


def rearranged(blocks_RU: Tensor, place: Place, head_dim: int) -> Tensor:
    """Our rows of a matrix in blocks: whole rows move, so the blocks stay as they are."""
    index, parts = place.part
    ours = blocks_RU.unflatten(0, (parts, -1))[index] if parts > 1 else blocks_RU
    return ours[halves(ours.shape[0], head_dim)] if place.paired else ours
