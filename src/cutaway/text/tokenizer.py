"""Text to token ids and back, at run time, over the `tokenizers` library.

Ids equal those of transformers reading the same folder or GGUF file (text/gguf_vocab.py names the exceptions).
Special tokens spelled out in a text are taken as those tokens, as everywhere in transformers; see text/chat.py.
Read next: text/folder.py, text/gguf_vocab.py, text/detokenizer.py, text/chat.py
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.base.paths import atomic
from cutaway.text import folder as folders
from cutaway.text import gguf_export, gguf_vocab
from cutaway.text.chat import render
from cutaway.text.corpus import checked_text
from cutaway.text.detokenizer import Detokenizer, alphabet
from cutaway.text.vocabulary import Vocabulary, named_errors

_VALUES = {character: byte for byte, character in enumerate(alphabet())}


class Tokenizer:
    """A vocabulary with everything that uses it. Made by `from_folder` or `from_gguf`; holds no state between calls."""

    def __init__(self, vocabulary: Vocabulary):
        self.vocabulary = vocabulary
        self._backend = vocabulary.backend
        self._size = vocabulary.backend.get_vocab_size()  # counted once: Gemma's takes a quarter of a millisecond
        self._byte_level = "ByteLevel" in type(vocabulary.backend.decoder).__name__

    @classmethod
    def from_folder(cls, folder: str | Path) -> Tokenizer:
        """From tokenizer.json or vocab.json + merges.txt. Raises NotFound if the folder has neither, else BadInput."""
        return cls(folders.read(folder))

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any], source: str | Path | None = None) -> Tokenizer:
        """From a GGUF file's metadata. Raises BadInput naming `source` and the key that is missing or wrong."""
        return cls(gguf_vocab.read(metadata, source))

    @property
    def vocab(self) -> int:
        """How many ids there are; a model's embedding may have more rows than that, never fewer."""
        return self._size

    @property
    def bos_id(self) -> int | None:
        return self.vocabulary.id_of("bos_token")

    @property
    def eos_id(self) -> int | None:
        """The id that ends a document."""
        return self.vocabulary.id_of("eos_token")

    @property
    def eos_ids(self) -> frozenset[int]:
        """All ids after which generation stops: the end of a document, of a turn, of a message."""
        return self.vocabulary.eos_ids

    @property
    def pad_id(self) -> int | None:
        return self.vocabulary.id_of("pad_token")

    @property
    def special(self) -> dict[str, int]:
        """The tokens that are matched whole in any text and left out of decoded text, with their ids."""
        added = self._backend.get_added_tokens_decoder()
        return {token.content: index for index, token in sorted(added.items()) if token.special}

    @property
    def template(self) -> str | None:
        """The chat template for plain conversations, or None: a base model has none."""
        return self.vocabulary.templates.get("default")

    def encode(self, text: str, special: bool = True) -> list[int]:
        """The ids of `text`; `special` adds BOS or EOS where this tokenizer does so around every text."""
        if not isinstance(text, str):
            raise BadInput(f"only text can be encoded, not a {type(text).__name__}", source=self.vocabulary.source)
        checked_text(text)
        with named_errors(self.vocabulary.source):
            return self._backend.encode(text, add_special_tokens=special).ids

    def decode(self, ids: Iterable[int], special: bool = False) -> str:
        """The text of `ids`; `special` keeps special tokens. Ids beyond the vocabulary give nothing."""
        known = [int(index) for index in ids]
        if known and min(known) < 0:
            raise BadInput(f"{min(known)} is not a token's id", source=self.vocabulary.source)
        limit = self.vocab
        with named_errors(self.vocabulary.source):
            return self._backend.decode([index for index in known if index < limit], skip_special_tokens=not special)

    def detokenizer(self, special: bool = False) -> Detokenizer:
        """Decodes a stream: push(id) -> str, flush() -> str, never half a character."""
        return Detokenizer(self._backend, special)

    def token(self, token_id: int) -> str:
        """One token as a person may read it: spaces as spaces, bytes that are no character as `\\xe4`."""
        piece = self._backend.id_to_token(token_id) if 0 <= token_id < self.vocab else None
        if piece is None:
            return f"[{token_id}]"
        if not self._byte_level:
            return piece.replace("▁", " ").replace("</w>", " ")
        if any(character not in _VALUES for character in piece):
            return piece
        return bytes(_VALUES[character] for character in piece).decode("utf-8", "backslashreplace")

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        generation_prompt: bool = True,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """The ids of a conversation, `generation_prompt` adding the beginning of the answer. See `render`."""
        text = self.render(messages, generation_prompt, tools=tools, variables=variables)
        return self.encode(text, special=False)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        generation_prompt: bool = True,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The conversation as this model's template writes it. `tools` are JSON schemas; `variables` what this template
        takes besides (`enable_thinking`). Raises BadInput for wrong messages, and where there is no template."""
        templates = self.vocabulary.templates
        template = templates.get("tool_use" if tools and "tool_use" in templates else "default")
        if template is None:
            message = "there is none: this is a base model, which continues a text; give it a plain prompt"
            raise BadInput(message, source=self.vocabulary.source, field="chat template")
        return render(
            template,
            messages,
            names=self.vocabulary.names,
            generation_prompt=generation_prompt,
            tools=tools,
            variables=variables,
            source=self.vocabulary.source,
        )

    def save(self, folder: str | Path) -> None:
        """Writes tokenizer.json, tokenizer_config.json and the chat templates, which transformers reads with equal ids.

        The ids that end a turn go into generation_config.json, whose other fields are kept if there is one.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            **self.vocabulary.names,
        }
        templates = self.vocabulary.templates
        if list(templates) == ["default"]:
            _write(folder / "chat_template.jinja", templates["default"])
            config["chat_template"] = templates["default"]
        else:  # a separate file would hide every template but its own
            (folder / "chat_template.jinja").unlink(missing_ok=True)
            config["chat_template"] = [{"name": name, "template": text} for name, text in templates.items()] or None
        generation_path = folder / "generation_config.json"
        generation = folders.read_json(generation_path)
        roles = {"bos_token_id": self.bos_id, "pad_token_id": self.pad_id}
        generation.update({role: index for role, index in roles.items() if index is not None})
        if self.eos_ids:
            generation["eos_token_id"] = sorted(self.eos_ids)
        _write(folder / "tokenizer.json", self._backend.to_str())
        _write(folder / "tokenizer_config.json", json.dumps(config, ensure_ascii=False, indent=2))
        if generation:
            _write(generation_path, json.dumps(generation, indent=2))

    def to_gguf(self) -> dict[str, Any]:
        """The metadata that describes this tokenizer in a GGUF file. Raises BadInput for one that GGUF cannot hold."""
        return gguf_export.metadata(self.vocabulary)


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
