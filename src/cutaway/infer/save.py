"""Writes a model where other programs can open it: a Hugging Face folder, or a GGUF file.

Read next: weights/saving.py, weights/gguf/export.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.base.paths import atomic, expand
from cutaway.infer.language import Language
from cutaway.infer.sentence import write_pooling
from cutaway.infer.seq2seq import Seq2Seq
from cutaway.models.encoder import Encoder
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.text.folder import read_json
from cutaway.weights.architectures.table import home_of
from cutaway.weights.gguf.export import QUANTS, write_model
from cutaway.weights.saving import write_folder


def save(language: Language | Seq2Seq, path: str | os.PathLike[str], quant: str | None = None) -> Path:
    """Writes the model and its tokenizer; returns the path. What was there before stays until the new is whole.

    A path that ends in .gguf becomes a file for llama.cpp: `quant` "f16" (if None), "q8_0", "q5_1", "q5_0", "q4_1" or
    "q4_0". Any other becomes a folder for transformers, in the precision that the model has here; packed weights are
    expanded to float32. An encoder without a head is also a folder for sentence-transformers. Raises BadInput where no
    architecture that other programs know has the model's shape, or where the path cannot be written.
    """
    path = expand(path)
    try:
        _write(language, path, quant)
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror or error}", source=path) from error
    return path


def _write(language: Language | Seq2Seq, path: Path, quant: str | None) -> None:
    if path.suffix.lower() == ".gguf":
        if quant is not None and quant not in QUANTS:
            raise BadInput(f'no such form "{quant}"{did_you_mean(quant, QUANTS)}', field="quant")
        write_model(language.module, language.tokenizer, path, quant or "f16")
        return
    if quant is not None:
        raise BadInput('only a path that ends in ".gguf" can be quantised', source=path, field="quant")
    if isinstance(language, Language) and isinstance(language.spec, Encoder) and language.spec.head is None:
        home_of(language.spec)  # refuses before anything is written
        write_pooling(language.pooling, path, dim=language.spec.dim, longest=language.spec.length)
    tokenizer = language.tokenizer
    if tokenizer is None:
        write_folder(language.module, language.spec, path)
        return
    # Other programs look in config.json for where a text begins and where an answer ends.
    ends = {"bos_token_id": tokenizer.bos_id, "eos_token_id": sorted(tokenizer.eos_ids) or None}
    told = {name: value for name, value in ends.items() if value is not None}
    write_folder(language.module, language.spec, path, extra=told)
    if isinstance(language, Seq2Seq):
        _write_generation(language.spec, path / "generation_config.json")
    tokenizer.save(path)


def _write_generation(spec: EncoderDecoder, path: Path) -> None:
    """Where there is a generation_config.json, as the tokenizer writes one, transformers looks nowhere else."""
    told = {**read_json(path), "decoder_start_token_id": spec.start, "pad_token_id": spec.start}
    told["bad_words_ids"] = [[id] for id in spec.never] or None
    with atomic(path) as partial:
        partial.write_text(json.dumps(told, indent=2), encoding="utf-8")
