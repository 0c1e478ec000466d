"""An architecture: how a checkpoint of one `model_type` describes a decoder, and what it calls its parameters.

Read next: weights/architectures/llama.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cutaway.models.decoder import Decoder
from cutaway.weights.architectures.place import Names
from cutaway.weights.fields import Fields


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """`spec` reads config.json, `config` writes it: an architecture can hold a decoder if reading gives it back.

    `names` are those of Hugging Face checkpoints, behind `prefix`, which a checkpoint without a head leaves out;
    `gguf_names` are llama.cpp's, whose name for the architecture is `gguf` (None: it has none).
    """

    model_type: str
    made_by: str  # transformers' class, which config.json names
    prefix: str
    names: Names
    spec: Callable[[Fields], Decoder]
    config: Callable[[Decoder], dict[str, Any]]
    gguf: str | None = None
    gguf_names: Names | None = None
    passed_over: tuple[str, ...] = ()  # starts of the names of tensors that belong to other parts of the model
