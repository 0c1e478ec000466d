"""A small random Llama with a byte-level tokenizer, as a folder that the real `load` opens."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from cutaway.base.seeds import seed_all
from cutaway.infer.language import Language
from cutaway.infer.save import save
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope

TEMPLATE = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"


def spec(blocks: int = 3) -> Decoder:
    mixer = GroupedQuery(heads=4, kv_heads=2, head_dim=8, rope=Rope(width=8))
    block = Block(mixer=mixer, feed=Gated(hidden=64), before=RMSNorm())
    return Decoder(vocab=258, dim=32, blocks=(block,) * blocks, norm=RMSNorm(), length=512)


def tiny(folder: Path, blocks: int = 3) -> Path:
    """Every byte is a token, so any text can be read; what it writes is noise."""
    seed_all(0)
    save(Language(spec(blocks).build()), folder)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate([*letters, "<s>", "</s>"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<s>", "</s>"])
    backend.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
