"""A random decoder with a tokenizer of bytes and a chat template, small enough to answer hundreds of requests."""

from __future__ import annotations

import json
from pathlib import Path

import tokenizers
import torch
from tokenizers import AddedToken, decoders, pre_tokenizers
from tokenizers.models import BPE

from cutaway.infer.language import Language
from cutaway.infer.proposers import Proposer
from cutaway.infer.scheduler import Limits
from cutaway.infer.service import Service
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.serve.roster import Speaker
from cutaway.text.detokenizer import alphabet
from cutaway.text.tokenizer import Tokenizer

SPECIAL = ("<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LENGTH = 1024


def tokenizer(folder: Path, *, endless: bool = False) -> Tokenizer:
    """Every byte is a token; two merges, so that a token may be more than a character. `endless`: none ends a turn."""
    letters = alphabet()
    vocab = {letter: index for index, letter in enumerate(letters)} | {"he": 256, "hel": 257}
    backend = tokenizers.Tokenizer(BPE(vocab, [("h", "e"), ("he", "l")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<|im_start|>", "chat_template": TEMPLATE}
    config |= {} if endless else {"eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return Tokenizer.from_folder(folder)


def language(folder: Path, seed: int = 0, *, length: int = LENGTH, endless: bool = False) -> Language:
    torch.manual_seed(seed)
    reader = tokenizer(folder, endless=endless)
    mixer = GroupedQuery(heads=2, kv_heads=1, head_dim=8, rope=Rope(width=8))
    block = Block(mixer=mixer, feed=Gated(hidden=32), before=RMSNorm())
    module = Decoder(vocab=reader.vocab, dim=16, length=length, norm=RMSNorm(), blocks=(block, block)).build()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return Language(module, reader, source="tiny")


def speaker(
    language: Language,
    *,
    tokens: int = 2048,
    sequences: int = 16,
    queue: int = 256,
    proposer: Proposer | None = None,
) -> Speaker:
    """An engine of its own on a model that others may share."""
    limits = Limits(tokens=tokens, sequences=sequences, budget=64, page=8)
    told = {"limits": limits, "deterministic": True, "proposer": proposer, "model": "tiny", "queue": queue}
    return Speaker("tiny", Service(language, **told))


def bytes_of(text: str) -> list[int]:
    """The ids that spell a text byte by byte."""
    places = {letter: index for index, letter in enumerate(alphabet())}
    return [places[alphabet()[byte]] for byte in text.encode("utf-8")]
