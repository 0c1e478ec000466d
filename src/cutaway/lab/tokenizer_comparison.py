"""Tokenizers beside each other on the same text: how long it becomes, and what of it is lost or falls into bytes.

Rust et al. 2021, "How Good is Your Tokenizer?", arXiv 2012.15613, section 4: fertility is tokens per word. For Chinese,
which does not mark its words, it is tokens per character.

    bytes per token = UTF-8 bytes of the text / tokens        unknown = unknown tokens / tokens

Every kind is trained on one part of each text, at one vocabulary size, and all are measured on the rest of it.
WordPiece keeps no white space, and no capitals where its vocabulary is uncased: it has less to write than the others.
Read next: text/bpe.py, text/wordpiece.py, text/unigram.py, text/character.py
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cutaway.base.errors import BadInput
from cutaway.text.bpe import BytePair
from cutaway.text.character import Character
from cutaway.text.scripts import SPACE, script
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.unigram import Unigram
from cutaway.text.wordpiece import WordPiece

ENGLISH, CHINESE = "English", "Chinese"
_SCRIPTS = {"LATIN": ENGLISH, "CJK": CHINESE}
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_HELD_OUT = 10  # every tenth paragraph is measured and not trained on
_PARAGRAPHS = 20  # lines are taken in blocks of so many, so that a block is a piece of text and not a line of verse

Texts = Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one tokenizer makes of one language. `fertility` is tokens per word, or per character of Chinese."""

    name: str
    vocab: int
    language: str
    tokens: int
    bytes_per_token: float
    fertility: float
    unknown: float  # share of the tokens
    in_bytes: float  # share of the tokens that are a byte, or a part of a character


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Text by language: what to train on, and what was held out."""

    train: Mapping[str, Texts] = field(default_factory=dict)
    held_out: Mapping[str, Texts] = field(default_factory=dict)

    def languages(self) -> list[str]:
        return [language for language in (ENGLISH, CHINESE) if self.held_out.get(language)]


def _byte_pair(texts: Texts, vocab: int) -> Tokenizer:
    return BytePair.train(texts, vocab=vocab).fast()


def _word_piece(texts: Texts, vocab: int) -> Tokenizer:
    return WordPiece.train(texts, vocab=vocab, coverage=0.9995).fast()


def _unigram(texts: Texts, vocab: int) -> Tokenizer:
    return Unigram.train(texts, vocab=vocab).fast()


def _character(texts: Texts, vocab: int) -> Tokenizer:
    return Character.train(texts, vocab=vocab, special=["<unk>"], unknown="<unk>").fast()


KINDS: dict[str, Callable[[Texts, int], Tokenizer]] = {
    "bpe": _byte_pair,
    "wordpiece": _word_piece,
    "unigram": _unigram,
    "character": _character,
}


def sampled(texts: Iterable[str]) -> Sample:
    """The lines of `texts` by the script that most of their letters have, every tenth block of them held out.

    Lines without letters go with the line before. Raises BadInput where there is neither English nor Chinese.
    """
    blocks: dict[str, list[list[str]]] = {ENGLISH: [], CHINESE: []}
    language = ""
    for text in texts:
        fresh = True
        for line in text.split("\n"):
            found = language_of(line) or language
            if found and (fresh or found != language or len(blocks[found][-1]) >= _PARAGRAPHS):
                blocks[found].append([])
                fresh = False
            language = found
            if found and (line.strip() or blocks[found][-1]):
                blocks[found][-1].append(line)
    train, held_out = {}, {}
    for name, found in blocks.items():
        joined = ["\n".join(block) for block in found if block]
        if not joined:
            continue
        # A short text has one block at least on either side.
        chosen = set(range(_HELD_OUT - 1, len(joined), _HELD_OUT)) or {len(joined) - 1}
        held_out[name] = [text for index, text in enumerate(joined) if index in chosen]
        train[name] = [text for index, text in enumerate(joined) if index not in chosen] or joined
    if not held_out:
        raise BadInput("there is neither English nor Chinese in it", field="corpus")
    return Sample(train=train, held_out=held_out)


def language_of(line: str) -> str:
    """English where most letters are Latin ones, Chinese where most are ideographs; "" without either."""
    counts = Counter(_SCRIPTS.get(script(character)) for character in line if character != SPACE)
    counts.pop(None, None)
    return counts.most_common(1)[0][0] or "" if counts else ""


def trained(kind: str, sample: Sample, vocab: int) -> Tokenizer:
    """A tokenizer of `kind` from all of a sample's training text."""
    return KINDS[kind]([text for texts in sample.train.values() for text in texts], vocab)


def measured(name: str, tokenizer: Tokenizer, sample: Sample) -> list[Measured]:
    """What `tokenizer` makes of the text that was held out, by language."""
    return [_one(name, tokenizer, language, sample.held_out[language]) for language in sample.languages()]


def _one(name: str, tokenizer: Tokenizer, language: str, texts: Texts) -> Measured:
    counted: Counter[int] = Counter()
    for text in texts:
        counted.update(tokenizer.encode(text, special=False))
    tokens = max(1, counted.total())
    unknown = tokenizer.vocabulary.id_of("unk_token")
    fallen = sum(count for index, count in counted.items() if index != unknown and _in_bytes(tokenizer, index))
    if language == CHINESE:
        units = sum(1 for text in texts for character in text if not character.isspace())
    else:
        units = sum(len(text.split()) for text in texts)
    return Measured(
        name=name,
        vocab=tokenizer.vocab,
        language=language,
        tokens=counted.total(),
        bytes_per_token=sum(len(text.encode("utf-8")) for text in texts) / tokens,
        fertility=counted.total() / max(1, units),
        unknown=(counted[unknown] if unknown is not None else 0) / tokens,
        in_bytes=fallen / tokens,
    )


def _in_bytes(tokenizer: Tokenizer, index: int) -> bool:
    """Whether a token is a byte, or holds no more than a part of some character."""
    piece = tokenizer.vocabulary.backend.id_to_token(index) or ""
    return bool(_BYTE.fullmatch(piece)) or "\ufffd" in tokenizer.decode([index], special=True)
