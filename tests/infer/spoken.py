"""A small random decoder with a tokenizer of bytes: a Chinese character is three tokens."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers
from torch import nn

from cutaway.infer.language import Language
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.text.tokenizer import Tokenizer

END = 256
VOCAB = 257


@functools.cache
def tokenizer() -> Tokenizer:
    """Ids 0 to 255 are bytes, in some order; END ends a turn."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE({letter: index for index, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<end>"])
    with tempfile.TemporaryDirectory() as folder:
        backend.save(str(Path(folder, "tokenizer.json")))
        Path(folder, "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}), encoding="utf-8")
        return Tokenizer.from_folder(folder)


def language(length: int = 256) -> Language:
    """Random weights, large enough that texts differ."""
    torch.manual_seed(0)
    mixer = GroupedQuery(heads=4, kv_heads=2, head_dim=4, rope=Rope(width=4))
    block = Block(mixer=mixer, feed=Gated(hidden=24), before=RMSNorm())
    module = Decoder(vocab=VOCAB, dim=16, blocks=(block,) * 2, length=length, norm=RMSNorm()).build()
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.4)
    return Language(module, tokenizer())


def ids(text: str) -> tuple[int, ...]:
    return tuple(tokenizer().encode(text))
