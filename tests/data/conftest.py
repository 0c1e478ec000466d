"""A small tokenizer, trained here, and a small corpus in two languages."""

from __future__ import annotations

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from cutaway.text.tokenizer import Tokenizer
from cutaway.text.vocabulary import Vocabulary

END = "<|endoftext|>"


@pytest.fixture(scope="session")
def corpus(root) -> list[str]:
    """Paragraphs of English and Chinese."""
    paths = [root / "tests/data" / name for name in ("english.txt", "chinese.txt")]
    return [part for path in paths for part in path.read_text(encoding="utf-8").split("\n") if part.strip()]


@pytest.fixture(scope="session")
def tokenizer(corpus) -> Tokenizer:
    """Byte-level BPE of 400 tokens, the last of them the end of a text."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=399, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(corpus, trainer)
    backend.add_special_tokens([END])
    eos = backend.token_to_id(END)
    return Tokenizer(Vocabulary(backend=backend, names={"eos_token": END}, eos_ids=frozenset([eos])))
