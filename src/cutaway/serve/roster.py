"""The models that are served, by the names that requests call them.

Read next: infer/service.py, serve/app.py
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from cutaway.base.errors import BadInput
from cutaway.infer.embedding import encode
from cutaway.infer.service import Service
from cutaway.serve.faults import Fault
from cutaway.serve.tokens import Spelling

if TYPE_CHECKING:
    from cutaway.infer.language import Language

SLICE = 16  # texts that are embedded before the time and the client are looked after


class Speaker:
    """A decoder: what writes."""

    def __init__(self, name: str, service: Service):
        self.name, self.service, self.created = name, service, int(time.time())
        self.context = service.longest  # tokens of a prompt with its answer
        self.tokenizer = service.language.tokenizer
        self.spelling = Spelling(self.tokenizer)

    def close(self, finish: float = 0.0) -> None:
        self.service.close(finish=finish)


class Embedder:
    """An encoder: what turns texts to vectors, one request at a time, a few texts at a time."""

    def __init__(self, name: str, language: Language):
        if language.tokenizer is None:
            raise BadInput("this encoder came without a tokenizer", source=language.source)
        language.check_weights()
        self.name, self.language, self.created = name, language, int(time.time())
        self.tokenizer = language.tokenizer
        self.context = min(language.pooling.length or language.spec.length, language.spec.length)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cutaway-embedder")

    async def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """One vector for each text, and how many tokens were read. The loop stays free; a cancelled one ends soon."""
        loop, vectors, tokens = asyncio.get_running_loop(), [], 0
        for start in range(0, len(texts), SLICE):
            made, read = await loop.run_in_executor(self._thread, self._slice, texts[start : start + SLICE])
            vectors, tokens = vectors + made, tokens + read
        return vectors, tokens

    def _slice(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        lower = self.language.pooling.lower
        read = sum(len(encode(self.tokenizer, text.lower() if lower else text, self.context)) for text in texts)
        return self.language.embed(texts).tolist(), read

    def close(self, finish: float = 0.0) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)


class Roster:
    """All models of the server."""

    def __init__(self, models: Sequence[Speaker | Embedder]):
        names = [one.name for one in models]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise BadInput(f"two models are called {twice}: give one of them another name, NAME=MODEL", field="model")
        self.models = {one.name: one for one in models}

    @property
    def speakers(self) -> list[Speaker]:
        return [one for one in self.models.values() if isinstance(one, Speaker)]

    @property
    def embedders(self) -> list[Embedder]:
        return [one for one in self.models.values() if isinstance(one, Embedder)]

    def speaker(self, name: str | None) -> Speaker:
        """Raises Fault for a name that is none, or another kind of model's. None is the only one there is."""
        return self._one(name, self.speakers, "writes no text")

    def embedder(self, name: str | None) -> Embedder:
        return self._one(name, self.embedders, "makes no embeddings")

    def find(self, name: str) -> Speaker | Embedder:
        if name not in self.models:
            raise Fault(
                404, f"there is no model {name!r:.100}; /v1/models lists them", param="model", code="model_not_found"
            )
        return self.models[name]

    def _one(self, name: str | None, kind: list[Any], said: str) -> Any:
        if name is not None:
            found = self.find(name)
            if found not in kind:
                raise Fault(400, f"{found.name} {said}", param="model")
            return found
        if len(kind) != 1:
            there = ", ".join(one.name for one in kind) or "none of that kind"
            raise Fault(400, f"say which model; there is {there}", param="model")
        return kind[0]

    def close(self, finish: float = 0.0) -> None:
        """Ends all of them, side by side, so that each has the whole time."""
        with ThreadPoolExecutor(max(len(self.models), 1)) as threads:
            list(threads.map(lambda one: one.close(finish), self.models.values()))
