"""What a file or folder says about its tokenizer, whichever of the two it came from.

Read next: text/folder.py (Hugging Face folders), text/gguf_vocab.py (GGUF files)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, processors

from cutaway.base.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """`backend` encodes and decodes; the rest is what it does not know.

    `names` are the special tokens by role ("bos_token": "<s>"), as chat templates want them; `templates` are the chat
    templates by name, of which "default" is the one for plain conversations; `source` is named in errors.
    """

    backend: Tokenizer
    names: Mapping[str, str] = field(default_factory=dict)
    eos_ids: frozenset[int] = frozenset()
    templates: Mapping[str, str] = field(default_factory=dict)
    source: Path | None = None

    def id_of(self, role: str) -> int | None:
        """The id of the token with that role ("bos_token"), or None."""
        name = self.names.get(role)
        return None if name is None else self.backend.token_to_id(name)


@contextmanager
def named_errors(source: Path | None, field: str | None = None) -> Iterator[None]:
    """Turns what `tokenizers` raises, its Rust panics included, into a BadInput of one line."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise BadInput(" ".join(str(error).split()), source=source, field=field) from error


def frame(backend: Tokenizer, *, bos: str | None, eos: str | None) -> None:
    """Makes `backend` put `bos` before and `eos` after every text (either may be None)."""
    if bos is None and eos is None:
        return
    pieces = [*([bos] if bos else []), "$A", *([eos] if eos else [])]
    ids = [(token, backend.token_to_id(token)) for token in (bos, eos) if token]
    backend.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=pieces, pair=[*pieces, "$B:1"], special_tokens=ids
    )


def mark_special(backend: Tokenizer, tokens: list[str]) -> None:
    """Makes each of `tokens` one that is matched whole in a text and left out when decoding."""
    if tokens:
        backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in tokens])
