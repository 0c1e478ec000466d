"""A language model that answers from a script, so that the command line is tested without weights."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch

from cutaway.base.errors import BadInput
from cutaway.infer.answer import Piece


class ScriptedLanguage:
    """Says `says` a character a piece; `asked` keeps the prompts and options it was given."""

    def __init__(self, says: str = "Paris.", template: str | None = "any", interrupt_at: int | None = None):
        self.says, self.interrupt_at = says, interrupt_at
        self.source = "scripted"
        self.tokenizer = SimpleNamespace(template=template, token=lambda id: f" t{id}\n" if id else "")
        self.asked: list[tuple[Any, dict[str, Any]]] = []
        self.opened: dict[str, Any] = {}
        self.logits_V = torch.tensor([0.0, 3.0, 1.0, 2.0])

    def encode(self, prompt: Any) -> list[int]:
        if prompt == "too long":
            raise BadInput("the prompt has 9 tokens, the model's context 8", field="prompt")
        return [1, 2] if isinstance(prompt, str) else [7, 8, 9]

    def continuation(self) -> Any:
        return SimpleNamespace(rewind=lambda ids, room: ids, feed=lambda ids: self.logits_V)

    def stream(self, prompt: Any, held: Any = None, **options: Any) -> Iterator[Piece]:
        self.asked.append((prompt, options))
        if isinstance(prompt, list) and prompt and prompt[-1] == {"role": "user", "content": "too long"}:
            self.encode("too long")
        for count, character in enumerate(self.says):
            if count == self.interrupt_at:
                raise KeyboardInterrupt
            last = count == len(self.says) - 1
            yield Piece(text=character, token=count, logprob=-0.5, finish_reason="stop" if last else None)


def opener(language: ScriptedLanguage) -> Any:
    """Stands in for `open_language`."""

    def open_language(context: Any, model: str, **options: Any) -> ScriptedLanguage:
        language.opened = {"model": model, **options}
        return language

    return open_language
