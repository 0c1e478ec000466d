"""A small random BERT with a WordPiece tokenizer and the files of sentence-transformers, as a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "un", "##able", "中", "国", "."]
WORDS += [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
WORDS += [f"##{chr(letter)}" for letter in range(ord("a"), ord("z") + 1)]
SMALL = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 40}
FLAGS = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")


def write(folder: Path, name: str, data: Any) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(data), encoding="utf-8")


def sentence_folder(folder: Path, *, by: str = "mean_tokens", unit: bool = True, limits: dict | None = None) -> Path:
    """`by`: which flag of the pooling is set; `limits`: sentence_bert_config.json."""
    torch.manual_seed(3)
    model = transformers.BertModel(transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, **SMALL))
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    backend = Tokenizer(models.WordPiece({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.add_special_tokens(WORDS[:5])
    backend.save(str(folder / "tokenizer.json"))
    write(folder, "tokenizer_config.json", {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"})
    stages = [("", "Transformer"), ("1_Pooling", "Pooling")] + ([("2_Normalize", "Normalize")] if unit else [])
    write(folder, "modules.json", [{"path": at, "type": f"sentence_transformers.models.{kind}"} for at, kind in stages])
    write(folder, "1_Pooling/config.json", {f"pooling_mode_{flag}": flag == by for flag in FLAGS})
    write(folder, "sentence_bert_config.json", {"max_seq_length": 12} if limits is None else limits)
    return folder
