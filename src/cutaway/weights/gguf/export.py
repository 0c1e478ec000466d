"""A model to a GGUF file that llama.cpp loads: metadata, tokenizer, and every matrix in the form asked for.

R rows (outputs) · C columns (inputs).   Read next: weights/gguf/config.py, weights/gguf/writer.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.rope_scaling import Llama3Scaling
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.packed import Packed
from cutaway.text.tokenizer import Tokenizer
from cutaway.weights.architectures.architecture import Architecture, Model
from cutaway.weights.architectures.place import Place, pairs, place_of
from cutaway.weights.architectures.table import home_of
from cutaway.weights.assemble import parameters_of
from cutaway.weights.gguf.config import ROPE_FREQUENCIES, divisors, write_metadata
from cutaway.weights.gguf.writer import write_gguf
from cutaway.weights.parameters import held, plain

# What a person may ask for, and llama.cpp's number for it (`general.file_type`).
QUANTS = {"f16": 1, "q8_0": 7, "q5_1": 9, "q5_0": 8, "q4_1": 3, "q4_0": 2}

Entry = tuple[str, tuple[int, ...], str, Callable[[], np.ndarray]]


def write_model(module: Model, tokenizer: Tokenizer | None, path: str | Path, quant: str) -> None:
    """Writes `path` whole or not at all, one tensor in memory at a time.

    `quant`: the form of matrices, a key of `QUANTS`. Vectors stay float32; the token table of a quantised file is
    q8_0, since it is also the head, which suffers most; a matrix whose rows are no whole number of blocks is f16.
    Raises BadInput where llama.cpp knows no architecture of this shape.
    """
    if not isinstance(module, DecoderModel):
        raise BadInput("only decoders are written as GGUF here", source=path)
    spec = module.spec
    architecture, config = home_of(spec)
    if architecture.gguf is None or architecture.gguf_names is None:
        raise BadInput(f"llama.cpp has no architecture like {architecture.model_type}", source=path)
    mixers = [block.mixer for block in spec.blocks if isinstance(block.mixer, GroupedQuery)]
    if architecture.gguf in ("llama", "qwen2", "qwen3") and any(mixer.window is not None for mixer in mixers):
        raise BadInput(
            f'llama.cpp\'s "{architecture.gguf}" has no window: the file would answer otherwise', source=path
        )
    metadata = {
        **write_metadata(architecture, config, spec),
        "general.name": Path(path).stem,
        "general.file_type": QUANTS[quant],
        "general.quantization_version": 2,
        **(tokenizer.to_gguf() if tokenizer is not None else {}),
    }
    write_gguf(path, metadata, _entries(module, spec, architecture, quant))


def _entries(module: DecoderModel, spec: Decoder, architecture: Architecture, quant: str) -> list[Entry]:
    """Every tensor of the file: name, shape, form, and what makes its bytes when its turn comes."""
    names: Mapping[str, Any] = architecture.gguf_names or {}
    groups: dict[str, list[str]] = {}
    for ours in parameters_of(spec):
        groups.setdefault(place_of(names, ours).name, []).append(ours)
    entries = []
    for name, ours in groups.items():
        ours.sort(key=lambda one: place_of(names, one).part)
        place = place_of(names, ours[0])
        rows, *columns = held(module, ours[0]).shape
        shape = (rows * len(ours), *columns)
        form = _form(ours[0], shape, quant)
        entries.append((name, shape, form, _maker(module, spec, ours, place, form)))
    rope = getattr(spec.blocks[0].mixer, "rope", None)
    if rope is not None and isinstance(rope.scaling, Llama3Scaling):
        factors_W = divisors(rope)
        entries.append((ROPE_FREQUENCIES, tuple(factors_W.shape), "f32", lambda: factors_W.numpy()))
    return entries


def _form(name: str, shape: tuple[int, ...], quant: str) -> str:
    if len(shape) == 1 or name == "positions.weight":
        return "f32"
    if quant == "f16" or shape[1] % 32:
        return "f16"
    return "q8_0" if name in ("embedding.weight", "head.weight") else quant


def _maker(module: DecoderModel, spec: Decoder, ours: list[str], place: Place, form: str) -> Callable[[], np.ndarray]:
    head_dim = getattr(spec.blocks[0].mixer, "head_dim", 1)

    def make() -> np.ndarray:
        whole = [held(module, name) for name in ours]
        same = [one for one in whole if isinstance(one, Packed) and one.format.name == form]
        if len(same) == len(whole):  # already in this form: whole rows move, no number is rounded again
            blocks_RU = torch.cat([one.blocks for one in same])
            return _bytes(blocks_RU[pairs(blocks_RU.shape[0], head_dim)] if place.paired else blocks_RU)
        numbers = place.put([plain(one).float().cpu() for one in whole], head_dim)
        if form in FORMATS:
            return _bytes(quantise(numbers, FORMATS[form]))
        return _bytes(numbers.to(torch.float16 if form == "f16" else torch.float32))

    return make


def _bytes(numbers: Tensor) -> np.ndarray:
    return numbers.detach().cpu().contiguous().view(torch.uint8).numpy()
