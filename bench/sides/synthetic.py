"""A model of a real one's shape and of random numbers, as a GGUF file: for speed, which does not ask what is said.

Q4_0 throughout, but that the token table, which is the head too, is Q8_0, as in every Q4_0 file of ours. Numbers are
drawn in their blocks: random levels under one scale, so that nothing is rounded and one tensor at a time is held.
R rows (outputs) · C columns (inputs).   Read next: src/cutaway/weights/gguf/export.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cutaway.models.decoder import Decoder
from cutaway.ops.blocks.format import FORMATS
from cutaway.weights.architectures.place import place_of
from cutaway.weights.architectures.qwen2 import QWEN2
from cutaway.weights.assemble import parameters_of
from cutaway.weights.fields import Fields
from cutaway.weights.gguf.config import write_metadata
from cutaway.weights.gguf.writer import write_gguf

QWEN2_1_5B = {  # the sizes of Qwen2.5-1.5B's config.json
    "vocab_size": 151_936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000.0,
    "tie_word_embeddings": True,
}
DEVIATION = 0.02  # of a weight, as models are commonly begun with
LEVELS = {"q4_0": 16, "q8_0": 256}


def write_synthetic(path: Path, sizes: dict[str, object] = QWEN2_1_5B, seed: int = 0) -> None:
    """Writes `path` whole or not at all. `sizes`: a config.json of Qwen2. The same seed gives the same file."""
    spec = QWEN2.spec(Fields(sizes, "sizes"))
    assert isinstance(spec, Decoder) and QWEN2.gguf_names is not None
    metadata = {
        **write_metadata(QWEN2, QWEN2.config(spec), spec),
        "general.name": path.stem,
        "general.file_type": 2,  # llama.cpp's number for Q4_0
        "general.quantization_version": 2,
        "tokenizer.ggml.model": "no_vocab",
    }
    entries = []
    for number, (ours, shape) in enumerate(parameters_of(spec).items()):
        draw = np.random.default_rng([seed, number])
        name, lone = place_of(QWEN2.gguf_names, ours).name, len(shape) == 1
        form = "f32" if lone else "q8_0" if ours == "embedding.weight" else "q4_0"
        entries.append((name, shape, form, vector(ours, shape[0], draw) if lone else blocks(form, shape, draw)))
    write_gguf(path, metadata, entries)


def vector(name: str, size: int, draw: np.random.Generator) -> Callable[[], np.ndarray]:
    """A norm's weights lie about 1, a bias about 0."""
    middle = 0.0 if name.endswith("bias") else 1.0
    return lambda: (middle + 0.1 * draw.standard_normal(size)).astype(np.float32)


def blocks(form: str, shape: tuple[int, ...], draw: np.random.Generator) -> Callable[[], np.ndarray]:
    """A matrix in blocks that begin with their scale, the same for all: levels at random."""
    format, (rows, columns) = FORMATS[form], shape
    levels = LEVELS[form]
    scale = np.array([DEVIATION / np.sqrt((levels**2 - 1) / 12)], np.float16).view(np.uint8)  # of equally likely levels

    def make() -> np.ndarray:
        blocks_NU = draw.integers(0, 256, (rows * columns // format.weights, format.bytes), np.uint8)
        blocks_NU[:, : scale.size] = scale
        return blocks_NU

    return make
