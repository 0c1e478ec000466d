"""The task of a masked language model: say what stood where tokens were hidden, seeing both sides.

Devlin et al. 2018 (arXiv 1810.04805), section 3.1.   Departure: rows are stretches of running text, without [CLS] and
[SEP], and there is no second sentence.   Read next: recipes/bert_mini.py, train/objectives/masked.py
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.data.batches import Batches, Evaluation
from cutaway.data.packing import Fitted
from cutaway.models.encoder import Encoder
from cutaway.nn.context import Context
from cutaway.nn.initialisation import Initialisation
from cutaway.ops.forms import Forms
from cutaway.recipes.beginning import begun
from cutaway.recipes.language import EVALUATED, scored
from cutaway.recipes.recipe import Prepared, Share
from cutaway.recipes.stream import Stream
from cutaway.text.tokenizer import Tokenizer
from cutaway.train.objectives.masked import Masked
from cutaway.weights.saving import write_folder

MASK, EVERY = "[MASK]", 7  # in a sample every seventh token is hidden


@dataclass(frozen=True, kw_only=True)
class HiddenToken:
    """`length` tokens a row, `rows` a batch, every piece of the corpus once before any comes again. The size of the
    tokenizer that the corpus gives takes the place of `model.vocab`. `evaluated`: batches of the validation part."""

    corpus: Stream
    model: Encoder
    length: int
    rows: int
    evaluated: int | None = None
    initialisation: Initialisation | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.length <= self.model.length:
            raise BadInput(f"must be from 1 to the model's {self.model.length}, is {self.length}", field="length")
        if self.rows < 1 or (self.evaluated is not None and self.evaluated < 1):
            raise BadInput("rows and evaluated must be at least 1", field="rows")

    def prepare(self, folder: Path, seed: int, device: str, share: Share, forms: Forms) -> Prepared:
        reading = self.corpus.read(folder)
        tokenizer = reading.tokenizer
        special = tokenizer.special
        if MASK not in special:
            raise BadInput(f"the tokenizer has no {MASK}: take WordPieces", field="corpus.vocabulary")
        spec = replace(self.model, vocab=tokenizer.vocab)
        rows = Fitted(reading.training, length=self.length, seed=seed)
        evaluation = Evaluation(reading.validation, length=self.length, count=max(1, EVALUATED // self.length))
        module = begun(spec, seed, device, self.initialisation)
        objective = Masked(mask=special[MASK], vocab=spec.vocab, special=tuple(special.values()), forms=forms)
        shown_N = torch.from_numpy(reading.validation.stretch(0, 2 * self.length).astype("int64"))
        shown = {"ids_N": shown_N[: self.length], "mask": special[MASK], "tokenizer": tokenizer, "forms": forms}
        parameters = sum(weight.numel() for weight in module.parameters())
        return Prepared(
            module=module,
            objective=objective,
            batches=Batches(rows, count=self.rows, rank=share.rank, world=share.world),
            validate=partial(scored, objective=objective, batches=evaluation, most=self.evaluated),
            sample=partial(_guessed, **shown),
            save=partial(_saved, tokenizer=tokenizer),
            data=reading.marks,
            facts=(*reading.facts, f"{parameters:,} parameters"),
            flops=3 * spec.cost(self.length, self.length).flops / self.length,
            draws=True,
        )

    def outline(self) -> tuple[nn.Module, int, int]:
        with torch.device("meta"):
            module = self.model.build()
        tokens = self.rows * self.length
        return module, tokens, tokens * (len(self.model.blocks) * 34 * self.model.dim + self.model.vocab)


@torch.no_grad()
def _guessed(module: nn.Module, *, ids_N: Tensor, mask: int, tokenizer: Tokenizer, forms: Forms) -> str:
    """A stretch that was not trained on, every seventh token hidden, then with what the model puts there."""
    was, device = module.training, next(module.parameters()).device
    module.eval()
    rows_X = torch.arange(EVERY // 2, len(ids_N), EVERY)
    hidden_N = ids_N.clone()
    hidden_N[rows_X] = mask
    context = Context.of((len(ids_N),), device=device, causal=False, forms=forms)
    logits_XV, _ = module(hidden_N.to(device), context, rows_X.to(device))
    filled_N = ids_N.clone()
    filled_N[rows_X] = logits_XV.argmax(-1).cpu()
    module.train(was)
    right = int((filled_N == ids_N).sum()) - (len(ids_N) - len(rows_X))
    lines = [tokenizer.decode(hidden_N.tolist(), special=True), tokenizer.decode(filled_N.tolist())]
    return "\n\n".join([*lines, f"{right} of {len(rows_X)} right"]) + "\n"


def _saved(module: nn.Module, folder: Path, *, tokenizer: Tokenizer) -> None:
    """Writes the model for `cutaway open` and transformers."""
    write_folder(module, module.spec, folder)  # type: ignore[arg-type]
    tokenizer.save(folder)
