"""A corpus as one long text whose end is kept apart, as nanoGPT cuts tinyshakespeare, with a tokenizer trained on it.

Read next: recipes/vocabulary.py, data/readers/sources.py
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cutaway.base.errors import BadInput
from cutaway.data.documents import Documents, Held, Joined
from cutaway.data.readers import sources
from cutaway.recipes.vocabulary import FILE, Vocabulary, tokenizer_of
from cutaway.text.tokenizer import Tokenizer
from cutaway.weights import corpora

PLAIN = "{% for message in messages %}{{ message.content }}\n{% endfor %}"  # the model goes on from what was said


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """A corpus in tokens. `marks`: digests, by which it is known again. `facts`: lines for a person. `text`: the whole
    of it, where that was read at once."""

    tokenizer: Tokenizer
    training: Documents
    validation: Documents
    marks: dict[str, str]
    facts: tuple[str, ...]
    text: str | None = None


@dataclass(frozen=True, kw_only=True)
class Stream:
    """`path`: a file, a folder, or the short name of a corpus that `cutaway get` brings. `validation`: the share of it,
    at its end, that is not trained on. `vocabulary`: what tokenizer is trained. `template`: how a conversation is put
    to a model of it."""

    path: str
    vocabulary: Vocabulary
    validation: float = 0.1
    template: str | None = PLAIN

    def __post_init__(self) -> None:
        if not 0.0 < self.validation < 1.0:
            raise BadInput(f"must be between 0 and 1, is {self.validation}", field="Stream.validation")

    def read(self, folder: Path) -> Reading:
        """Reads and encodes it, with the tokenizer in `folder`, which is trained and written there if there is none.

        Raises NotFound for a path that is not there, BadInput for what is empty or no UTF-8 text.
        """
        text = "\n".join(entry.text for entry in sources.read([corpora.located(self.path)]))
        cut = int(len(text) * (1 - self.validation))
        training, validation = text[:cut], text[cut:]
        if not training.strip() or not validation.strip():
            raise BadInput("the corpus is empty, or too short to keep a part for validation", source=self.path)
        tokenizer = tokenizer_of(self.vocabulary, training, validation, folder, self.template)
        held = [Held([tokenizer.encode(part, special=False)]) for part in (training, validation)]
        tokens = [int(one.lengths.sum()) for one in held]
        return Reading(
            tokenizer=tokenizer,
            training=Joined(held[0]),
            validation=held[1],
            marks={
                "corpus": hashlib.sha256(text.encode("utf-8")).hexdigest(),
                "tokenizer": hashlib.sha256((folder / FILE).read_bytes()).hexdigest(),
            },
            facts=(
                f"{tokens[0]:,} tokens for training, {tokens[1]:,} for validation; {len(training) / tokens[0]:.2f} "
                f"characters a token, a vocabulary of {tokenizer.vocab:,}",
            ),
            text=text,
        )
