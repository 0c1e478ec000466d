"""A corpus that `cutaway data prepare` laid out on the disk, with the tokenizer that it was made with.

Read next: recipes/language.py, data/corpus.py
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cutaway.base.errors import BadInput
from cutaway.data.corpus import RECORD, Corpus, is_corpus
from cutaway.data.documents import Joined
from cutaway.recipes.stream import Reading, Stream
from cutaway.recipes.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Shelved:
    """`path`: the folder of a prepared corpus."""

    path: str

    def read(self, folder: Path) -> Reading:
        """Opens it. Raises NotFound for a folder that is none, BadInput for one with nothing kept apart."""
        corpus = Corpus(self.path)
        if corpus.validation is None:
            raise BadInput("no part of it was kept apart for validation", source=self.path)
        corpus.tokenizer.save(folder)
        tokens = [int(part.lengths.sum()) for part in (corpus.train, corpus.validation)]
        return Reading(
            tokenizer=corpus.tokenizer,
            training=Joined(corpus.train),
            validation=corpus.validation,
            marks={
                "corpus": hashlib.sha256((corpus.folder / RECORD).read_bytes()).hexdigest(),
                "tokenizer": corpus.train.coding.tokenizer,
            },
            facts=(
                f"{tokens[0]:,} tokens for training in {len(corpus.train.lengths):,} documents, {tokens[1]:,} for "
                f"validation; a vocabulary of {corpus.tokenizer.vocab:,}",
            ),
        )


def corpus_at(path: str, *, vocabulary: Vocabulary, validation: float, template: str | None) -> Stream | Shelved:
    """What stands at `path`: a prepared corpus, with the tokenizer that it was made with, or a text, for which
    everything else is meant."""
    if is_corpus(path):
        return Shelved(path=path)
    return Stream(path=path, vocabulary=vocabulary, validation=validation, template=template)
