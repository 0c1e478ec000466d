"""Small random models with a byte-level tokenizer, as folders that the real `load` opens."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from cutaway.base.seeds import seed_all
from cutaway.infer.language import Language
from cutaway.infer.save import save
from cutaway.infer.seq2seq import Seq2Seq
from cutaway.models.decoder import Decoder
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.stack import Stack
from cutaway.nn.attention.cross import Cross
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.nn.relative_bias import RelativeBias

TEMPLATE = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"


def spec(blocks: int = 3) -> Decoder:
    mixer = GroupedQuery(heads=4, kv_heads=2, head_dim=8, rope=Rope(width=8))
    block = Block(mixer=mixer, feed=Gated(hidden=64), before=RMSNorm())
    return Decoder(vocab=258, dim=32, blocks=(block,) * blocks, norm=RMSNorm(), length=512)


def tiny(folder: Path, blocks: int = 3) -> Path:
    """Every byte is a token, so any text can be read; what it writes is noise."""
    seed_all(0)
    save(Language(spec(blocks).build()), folder)
    return with_tokenizer(folder)


def rewriter(folder: Path) -> Path:
    """An encoder-decoder that reads and writes bytes."""
    seed_all(0)
    sizes = {"heads": 4, "kv_heads": 4, "head_dim": 8, "scale": 1.0}
    reads = Block(mixer=GroupedQuery(**sizes), feed=Gated(hidden=64, activation="gelu_tanh"), before=RMSNorm())
    writes = replace(reads, cross=Cross(**sizes))
    made = [
        Stack(blocks=(block,), norm=RMSNorm(), relative=RelativeBias(heads=4, causal=block is writes))
        for block in (reads, writes)
    ]
    spec = EncoderDecoder(vocab=258, dim=32, encoder=made[0], decoder=made[1], ends=(257,), head_scale=32**-0.5)
    save(Seq2Seq(spec.build()), folder)
    return with_tokenizer(folder)


def with_tokenizer(folder: Path) -> Path:
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
