"""The task of a language model: say the next token of a corpus.

Radford et al. 2018.   loss = -log p(x[t+1] | x[..t])
Read next: recipes/stream.py, recipes/vocabulary.py, train/objectives/causal.py
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.data.batches import Batches, Evaluation
from cutaway.data.packing import Fitted, Windows
from cutaway.infer.language import Language
from cutaway.infer.save import save
from cutaway.models.decoder import Decoder
from cutaway.nn.initialisation import Initialisation
from cutaway.ops.forms import Forms
from cutaway.recipes.beginning import begun
from cutaway.recipes.recipe import Prepared, Sampling, Share
from cutaway.recipes.shelved import Shelved
from cutaway.recipes.stream import Reading, Stream
from cutaway.recipes.words import drawn, share_known, words
from cutaway.text.tokenizer import Tokenizer
from cutaway.train.loss import Objective
from cutaway.train.objectives.causal import Causal
from cutaway.train.validation import validate

EVALUATED = 8192  # tokens of one batch of an evaluation


@dataclass(frozen=True, kw_only=True)
class NextToken:
    """`length` tokens a row, `rows` a batch. `order`: "windows" from anywhere, again and again (nanoGPT's way), or
    "epochs": every piece of the corpus once before any comes again. The size of the tokenizer that the corpus gives
    takes the place of `model.vocab`. `evaluated`: batches of the validation part that are looked at (None: all).
    `words`: how many words are drawn at the end behind the first prompt, for `word_share`, the share of them that the
    corpus has too, where it is a text.
    """

    corpus: Stream | Shelved
    model: Decoder
    length: int
    rows: int
    order: Literal["windows", "epochs"] = "epochs"
    evaluated: int | None = None
    words: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    initialisation: Initialisation | None = None

    def __post_init__(self) -> None:
        if self.length > self.model.length:
            raise BadInput(f"rows of {self.length} are longer than the model's {self.model.length}", field="length")
        if self.rows < 1 or self.length < 1 or (self.evaluated is not None and self.evaluated < 1):
            raise BadInput("rows, length and evaluated must be at least 1", field="rows")
        if self.words < 0:
            raise BadInput(f"must be at least 0, is {self.words}", field="words")

    def prepare(self, folder: Path, seed: int, device: str, share: Share, forms: Forms) -> Prepared:
        reading = self.corpus.read(folder)
        spec = replace(self.model, vocab=reading.tokenizer.vocab)
        if int(reading.training.lengths.sum()) <= self.length:
            raise BadInput(f"the corpus is too short for rows of {self.length} tokens", source="corpus")
        order = Windows if self.order == "windows" else Fitted
        rows = order(reading.training, length=self.length, seed=seed)
        evaluation = Evaluation(reading.validation, length=self.length, count=max(1, EVALUATED // self.length))
        module, objective = begun(spec, seed, device, self.initialisation), Causal(forms=forms)
        parameters = sum(weight.numel() for weight in module.parameters())
        return Prepared(
            module=module,
            objective=objective,
            batches=Batches(rows, count=self.rows, rank=share.rank, world=share.world),
            validate=partial(scored, objective=objective, batches=evaluation, most=self.evaluated),
            sample=partial(continued, tokenizer=reading.tokenizer, sampling=self.sampling, forms=forms),
            save=partial(saved, tokenizer=reading.tokenizer),
            data=reading.marks,
            facts=(*reading.facts, f"{parameters:,} parameters"),
            flops=3 * spec.cost(self.length, self.length).flops / self.length,
            draws=draws(spec),
            conclude=self._concluded(reading, forms),
        )

    def _concluded(self, reading: Reading, forms: Forms) -> Callable[[nn.Module], dict[str, float]] | None:
        if not self.words or reading.text is None:
            return None
        told = {"tokenizer": reading.tokenizer, "sampling": self.sampling, "count": self.words, "forms": forms}
        return partial(worded, known=frozenset(words(reading.text)), **told)

    def outline(self) -> tuple[nn.Module, int, int]:
        with torch.device("meta"):
            module = self.model.build()
        tokens = self.rows * self.length
        return module, tokens, tokens * (len(self.model.blocks) * 34 * self.model.dim + 4 * self.model.vocab)


def draws(spec: Decoder) -> bool:
    """Whether there is any dropout in it."""
    parts = [part for block in spec.blocks for part in (block, block.mixer, block.feed)]
    return bool(spec.dropout) or any(getattr(part, "dropout", 0.0) for part in parts)


def scored(
    module: nn.Module, *, objective: Objective, batches: Iterable[Batch], most: int | None = None
) -> dict[str, float]:
    """`val_loss`: the mean over all items of `batches`, or of the first `most` of them."""
    score = validate(module, objective, islice(batches, most))
    return {"val_loss": score.loss, **{f"val_{name}": value for name, value in score.metrics.items()}}


def continued(module: nn.Module, *, tokenizer: Tokenizer, sampling: Sampling, forms: Forms) -> str:
    """What the model writes behind each prompt."""
    assert hasattr(module, "spec")
    language, was = Language(module, tokenizer, forms=forms), module.training  # type: ignore[arg-type]
    told = {"temperature": sampling.temperature, "top_k": sampling.top_k}
    texts = []
    for prompt in sampling.prompts:
        ids, first = language.encode(prompt), True
        while sampling.tokens > len(ids) or first:
            # Where the context is full, it goes on from its second half.
            seen = ids[-max(1, language.spec.length // 2) :]
            wanted = max(1, min(sampling.tokens - len(ids), language.spec.length - len(seen)))
            answer = language.generate(seen, max_tokens=wanted, seed=sampling.seed + len(ids), **told)
            ids, first = [*ids, *answer.tokens], False
            if answer.finish_reason == "stop":
                break
        texts.append(tokenizer.decode(ids))
    module.train(was)
    return "\n\n".join(texts)


def worded(
    module: nn.Module, *, tokenizer: Tokenizer, sampling: Sampling, known: Collection[str], count: int, forms: Forms
) -> dict[str, float]:
    """`word_share`: of `count` words that the model writes, those that are `known`; `words`: how many it did write."""
    language, was = Language(module, tokenizer, forms=forms), module.training  # type: ignore[arg-type]
    ids = language.encode(sampling.prompts[0])[-max(1, language.spec.length // 2) :]
    told = {"temperature": sampling.temperature, "top_k": sampling.top_k}
    wanted = max(1, language.spec.length - len(ids))
    written = drawn(lambda number: language.generate(ids, max_tokens=wanted, seed=number, **told).text, count)
    module.train(was)
    return {"word_share": round(share_known(written, known), 4), "words": len(written)}


def saved(module: nn.Module, folder: Path, *, tokenizer: Tokenizer) -> None:
    """Writes the model into the run's folder, for `cutaway open`, `chat`, `generate` and transformers."""
    save(Language(module, tokenizer), folder)  # type: ignore[arg-type]
