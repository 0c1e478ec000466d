"""Opens a model from wherever it is: a short name, a folder, a GGUF file, a hub id.

Read next: infer/language.py, infer/seq2seq.py, weights/huggingface.py, weights/gguf/model.py
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from cutaway.base.errors import BadInput, NotFound
from cutaway.base.names import did_you_mean
from cutaway.base.paths import expand
from cutaway.infer.language import Language
from cutaway.infer.sentence import read_pooling
from cutaway.infer.seq2seq import Seq2Seq
from cutaway.models.decoder import DecoderModel
from cutaway.models.encoder import EncoderModel
from cutaway.models.encoder_decoder import EncoderDecoderModel
from cutaway.nn.narrow_cache import kept_named
from cutaway.ops.blocks.scheme import precision_named
from cutaway.ops.forms import Forms, attending
from cutaway.text.tokenizer import Tokenizer
from cutaway.weights import hub
from cutaway.weights.gguf.model import read_model
from cutaway.weights.huggingface import read_folder
from cutaway.weights.precision import Precision, put_in
from cutaway.weights.shelf import SHELF, get

# What a folder's tokenizer is read from; without any of them the model is loaded without one.
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model", "vocab.txt")


def load(
    name_or_path: str | os.PathLike[str],
    dtype: torch.dtype | str | None = None,
    device: str | None = None,
    *,
    forms: Forms | None = None,
    weights: str | Precision | None = None,
    cache: str | None = None,
) -> Language | Seq2Seq:
    """A model ready to use: a `Language`, or a `Seq2Seq` where it is an encoder-decoder.

    `name_or_path`: a short name (`cutaway models`; fetched if it is not there yet), a Hugging Face folder, a .gguf
    file, or a hub id such as "org/name". `dtype`: what to compute in; None is float32 on a CPU, the checkpoint's own
    elsewhere. `device`: None picks cuda, mps, then cpu. `forms`: None is what answers a person, `attending` of
    ops/forms.py. `weights`: what matrices are rounded to once they are loaded, such as "int4:group=64"
    (ops/blocks/scheme.py). `cache`: what a decoder keeps keys and values in, such as "int8" (None: what it computes
    in). Raises NotFound for what is not there, BadInput for a file that is broken, hostile or of an unknown
    architecture.
    """
    precision = precision_named(weights) if isinstance(weights, str) else weights
    kept = kept_named(cache)
    forms = attending() if forms is None else forms
    keep_pages()
    name = os.fspath(name_or_path)
    path = locate(name)
    if path.is_file():
        module, tokenizer = read_model(path, dtype, device)
        _round(module, precision, name)
        return Language(module, tokenizer, forms=forms, source=name, kept=kept)
    module, _ = read_folder(path, dtype, device)
    if kept is not None and not isinstance(module, DecoderModel):
        raise BadInput("is no decoder: it keeps no text of its own", source=name, field="cache")
    _round(module, precision, name)
    tokenizer = Tokenizer.from_folder(path) if _has_tokenizer(path) else None
    if isinstance(module, EncoderDecoderModel):
        return Seq2Seq(module, tokenizer, forms=forms, source=name)
    pooling = read_pooling(path) if isinstance(module, EncoderModel) else None
    return Language(module, tokenizer, forms=forms, source=name, pooling=pooling, kept=kept)


def _round(module: nn.Module, precision: Precision | None, source: str) -> None:
    if precision is None:
        return
    try:
        put_in(module, precision)
    except BadInput as error:
        raise BadInput(error.message, source=source, field=error.field) from error


def _has_tokenizer(folder: Path) -> bool:
    """Marian's own, source.spm with a vocab.json that merges nothing, is none that is read here."""
    held = {file for file in TOKENIZER_FILES if (folder / file).is_file()}
    return bool(held - {"vocab.json"} if (folder / "source.spm").is_file() else held)


def keep_pages() -> None:
    """Teaches the C library to keep the memory of large temporaries.

    glibc gives a block of megabytes back to the system when it is freed, and maps new pages at the next: some 80,000
    page faults in a prompt of 512 tokens, a sixth of its time. Once a block just under 32 MB was freed it keeps such
    blocks instead. Elsewhere this does nothing.
    """
    torch.empty(32 * 2**20 - 8192, dtype=torch.uint8, device="cpu")


def locate(name: str) -> Path:
    """The folder or .gguf file behind a name; fetches a short name or a hub id that is not there yet."""
    if not name:
        raise BadInput("is empty: a short name, a folder, a .gguf file or a hub id is needed", field="model")
    path = expand(name)
    if name in SHELF and not path.is_dir():
        return get(name)
    if path.is_dir():
        return path
    if path.is_file():
        if path.suffix.lower() == ".gguf" or _magic(path) == b"GGUF":
            return path
        raise BadInput("is neither a GGUF file nor a folder with config.json and model.safetensors", source=path)
    if path.suffix.lower() == ".gguf" or path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise NotFound(
            f"{name}: no such file, folder or short name{did_you_mean(name, SHELF)}; `cutaway models` lists them"
        )
    return hub.fetch(name)


def _magic(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4)
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror or error}", source=path) from error
