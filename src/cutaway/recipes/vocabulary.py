"""Which tokenizer a run trains on its own corpus: characters, byte pairs, or pieces of words.

Read next: text/bpe.py, text/character.py
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from cutaway.base.errors import BadInput
from cutaway.text.tokenizer import Tokenizer

FILE = "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class Characters:
    """Each character of the corpus is a token; `special` ones come first. One that was not there is `unknown`."""

    special: tuple[str, ...] = ()
    unknown: str | None = None

    def train(self, training: str, validation: str) -> Tokenizer:
        from cutaway.text.character import Character

        return Character.train([training, validation], special=self.special, unknown=self.unknown).fast()


@dataclass(frozen=True, kw_only=True)
class BytePairs:
    """Byte-level BPE, trained on the part for training alone."""

    vocab: int = 2048

    def __post_init__(self) -> None:
        if self.vocab < 257:
            raise BadInput(f"256 bytes and one token more need 257, not {self.vocab}", field="BytePairs.vocab")

    def train(self, training: str, validation: str) -> Tokenizer:
        from cutaway.text.bpe import BytePair

        return BytePair.train([training], vocab=self.vocab).fast()


@dataclass(frozen=True, kw_only=True)
class WordPieces:
    """BERT's, lower case, with its five special tokens; trained on the part for training alone."""

    vocab: int = 2048

    def train(self, training: str, validation: str) -> Tokenizer:
        from cutaway.text.wordpiece import WordPiece

        return WordPiece.train([training], vocab=self.vocab).fast()


Vocabulary = Characters | BytePairs | WordPieces


def tokenizer_of(
    vocabulary: Vocabulary, training: str, validation: str, folder: Path, template: str | None = None
) -> Tokenizer:
    """The tokenizer in `folder`; where there is none yet, it is trained and written there.

    `template`: how a conversation is written for a model that only ever continues texts.
    """
    if not (folder / FILE).exists():
        trained = vocabulary.train(training, validation).vocabulary
        templates = {} if template is None else {"default": template}
        Tokenizer(replace(trained, templates=templates)).save(folder)
    return Tokenizer.from_folder(folder)
