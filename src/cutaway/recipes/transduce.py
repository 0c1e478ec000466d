"""The task of an encoder-decoder: from one text write another.

Sutskever et al. 2014 (arXiv 1409.3215); Vaswani et al. 2017 (arXiv 1706.03762).   loss = -log p(y[t] | y[..t], x)
Every source and every target ends with </s>; the decoder begins with <pad>, as T5's does.
Read next: recipes/t5_tiny.py, recipes/translate.py, train/objectives/seq2seq.py
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.data.pairs import Examples, joined, pair
from cutaway.infer.save import save
from cutaway.infer.seq2seq import Seq2Seq
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.nn.initialisation import Initialisation
from cutaway.ops.forms import Forms
from cutaway.recipes.beginning import begun
from cutaway.recipes.invented import Invented, Pair
from cutaway.recipes.recipe import Prepared, Share
from cutaway.recipes.sheet import Sheet
from cutaway.recipes.vocabulary import Characters, tokenizer_of
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.vocabulary import frame
from cutaway.train.objectives.seq2seq import SequenceToSequence
from cutaway.train.validation import validate
from cutaway.weights.architectures.table import home_of

SPECIAL = ("<pad>", "</s>", "<unk>")
START, END = 0, 1
TOGETHER = 64  # examples of one batch of an evaluation


@dataclass(frozen=True, kw_only=True)
class Transduce:
    """`rows`: pairs of a batch. `smoothing`: the share of a target that is spread over the vocabulary. `exact`: how
    many held-back examples are written out and compared whole. `shown`: how many make up a sample. The size of the
    vocabulary takes the place of `model.vocab`.
    """

    corpus: Invented | Sheet
    model: EncoderDecoder
    rows: int
    smoothing: float = 0.0
    exact: int = 200
    shown: int = 6
    longest: int = 64
    initialisation: Initialisation | None = None

    def __post_init__(self) -> None:
        if min(self.rows, self.exact, self.shown, self.longest) < 1:
            raise BadInput("rows, exact, shown and longest must be at least 1", field="rows")

    def prepare(self, folder: Path, seed: int, device: str, share: Share, forms: Forms) -> Prepared:
        training, held = self.corpus.read()
        tokenizer = _tokenizer(training, held, folder)
        spec = replace(self.model, vocab=tokenizer.vocab, start=START, ends=(END,))
        module = begun(spec, seed, device, self.initialisation)
        learned = [_ids(tokenizer, one) for one in training]
        unseen = [_ids(tokenizer, one) for one in held]
        told = [joined([_batch(one) for one in unseen[at : at + TOGETHER]]) for at in range(0, len(unseen), TOGETHER)]
        parameters = sum(weight.numel() for weight in module.parameters())
        lengths = [len(source) + len(target) + 1 for source, target in learned]
        cost = spec.cost(length := max(1, round(sum(lengths) / len(lengths) / 2)), length)
        written = {"tokenizer": tokenizer, "forms": forms}
        places = {"rows": self.rows, "seed": seed, "rank": share.rank, "world": share.world}
        return Prepared(
            module=module,
            objective=SequenceToSequence(smoothing=self.smoothing, forms=forms),
            batches=Examples(lambda index: _batch(learned[index]), len(learned), **places),
            validate=partial(self._scored, batches=told, held=held[: self.exact], **written),
            sample=partial(self._sample, held=held[: self.shown], **written),
            save=partial(_saved, tokenizer=tokenizer),
            data={"corpus": hashlib.sha256(repr((training, held)).encode("utf-8", "replace")).hexdigest()},
            facts=(
                f"{len(training):,} pairs for training, {len(held):,} for validation, a vocabulary of {spec.vocab:,}",
                f"{parameters:,} parameters; to know only how frequent each character is would be a loss of "
                f"{unigram([target for _, target in learned], [target for _, target in unseen], spec.vocab):.3f}",
            ),
            flops=3 * cost.flops / (2 * length),
            draws=bool(spec.dropout),
        )

    def outline(self) -> tuple[nn.Module, int, int]:
        with torch.device("meta"):
            module = self.model.build()
        tokens = self.rows * 2 * self.longest
        layers = len(self.model.encoder.blocks) + len(self.model.decoder.blocks)
        return module, tokens, tokens * (layers * 34 * self.model.dim + 4 * self.model.vocab)

    def _scored(
        self, module: nn.Module, *, batches: list[Batch], held: list[Pair], tokenizer: Tokenizer, forms: Forms
    ) -> dict[str, float]:
        """`val_loss`, never smoothed, and `val_exact`, the share of targets that were written without a fault."""
        score = validate(module, SequenceToSequence(forms=forms), batches)
        written = self._written(module, [source for source, _ in held], tokenizer, forms)
        right = sum(one == target for one, (_, target) in zip(written, held, strict=True))
        return {"val_loss": score.loss, "val_exact": right / len(held)}

    def _sample(self, module: nn.Module, *, held: list[Pair], tokenizer: Tokenizer, forms: Forms) -> str:
        written = self._written(module, [source for source, _ in held], tokenizer, forms)
        lines = [f"{source}\n  -> {one}\n  == {target}" for (source, target), one in zip(held, written, strict=True)]
        return "\n".join(lines) + "\n"

    def _written(self, module: nn.Module, sources: Sequence[str], tokenizer: Tokenizer, forms: Forms) -> list[str]:
        was = module.training
        writer = Seq2Seq(module, tokenizer, forms=forms)  # type: ignore[arg-type]
        answers = writer.generate([writer.encode(source) for source in sources], max_tokens=self.longest)
        module.train(was)
        return [answer.text for answer in answers]


def unigram(training: Sequence[Sequence[int]], held: Sequence[Sequence[int]], vocab: int) -> float:
    """The loss, a token, of saying each token as often as it occurred in training (one added to each count)."""
    counts = Counter(token for target in training for token in [*target, END])
    whole = sum(counts.values()) + vocab
    said = [math.log(whole / (counts[token] + 1)) for target in held for token in [*target, END]]
    return sum(said) / max(len(said), 1)


def _tokenizer(training: list[Pair], held: list[Pair], folder: Path) -> Tokenizer:
    texts = ["\n".join("\n".join(one) for one in part) for part in (training, held)]
    vocabulary = Characters(special=SPECIAL, unknown="<unk>")
    tokenizer = tokenizer_of(vocabulary, texts[0], texts[0], folder)
    frame(tokenizer.vocabulary.backend, bos=None, eos="</s>")  # as T5's does behind every text
    return tokenizer


def _ids(tokenizer: Tokenizer, one: Pair) -> tuple[list[int], list[int]]:
    """A source with its end, and a target without."""
    return tokenizer.encode(one[0]), tokenizer.encode(one[1], special=False)


def _batch(one: tuple[list[int], list[int]]) -> Batch:
    return pair(one[0], one[1], begin=START, end=END)


def _saved(module: nn.Module, folder: Path, *, tokenizer: Tokenizer) -> None:
    """Writes the model into the run's folder, for `cutaway generate` and transformers. One of a shape that no other
    program has a name for stays in its checkpoints."""
    writer = Seq2Seq(module, tokenizer)  # type: ignore[arg-type]
    try:
        home_of(writer.spec)
    except BadInput:
        return
    save(writer, folder)
