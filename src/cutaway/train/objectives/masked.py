"""Masked language modelling: some tokens are hidden, and the model says what stood there, seeing both sides.

Devlin et al. 2018 (arXiv 1810.04805), section 3.1 and appendix A.1: 15% of the tokens are chosen; of those 80% become
[MASK], 10% another random token, 10% stay, so that a model cannot tell by looking which places will be asked for.
Departures: each token is chosen on its own (RoBERTa's dynamic masking, arXiv 1907.11692, section 4.1), so that 15% is
the mean; there is no next-sentence prediction.
N tokens, flat · X of them that are asked for · V vocabulary.   Read next: models/encoder.py, train/objectives/spans.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.base.bounds import fractions
from cutaway.base.errors import BadInput
from cutaway.data.batch import IGNORE, Batch
from cutaway.models.encoder import EncoderModel
from cutaway.nn.context import Context
from cutaway.ops.cross_entropy import cross_entropy_fast, likeliest
from cutaway.ops.forms import FAST, Forms
from cutaway.train.loss import Loss


@dataclass(frozen=True, kw_only=True)
class Masked:
    """`mask`: the id of [MASK]. `vocab`: random tokens come from it. `special`: ids never chosen, never put in ([CLS],
    [SEP], [PAD], [MASK] itself). In training each batch is masked anew by torch's own generator, whose state a run
    saves; in evaluation always alike, from `seed`. `forms`: as in Causal. Metric `accuracy`: how many were said
    rightly.
    """

    splits = True
    mask: int
    vocab: int
    special: tuple[int, ...] = ()
    share: float = 0.15
    masked: float = 0.8
    swapped: float = 0.1
    seed: int = 0
    forms: Forms = FAST

    def __post_init__(self) -> None:
        fractions(self, "share")
        if not 0 <= self.mask < self.vocab or any(not 0 <= id < self.vocab for id in self.special):
            raise BadInput(f"an id lies outside of the vocabulary of {self.vocab}", field="Masked.mask")
        if min(self.masked, self.swapped) < 0 or self.masked + self.swapped > 1 + 1e-9:
            raise BadInput("the shares that are masked and swapped are parts of one", field="Masked.masked")
        if len({self.mask, *self.special}) >= self.vocab:
            raise BadInput("no token is left to put in", field="Masked.special")

    def __call__(self, module: nn.Module, batch: Batch) -> Loss:
        generator = None if module.training else torch.Generator().manual_seed(self.seed)
        ids_N, targets_N = corrupt(batch.ids_N, self, generator)
        rows_X = targets_N.ne(IGNORE).nonzero()[:, 0]
        context = Context.of(batch.lengths, device=ids_N.device, causal=False, forms=self.forms)
        kinds: dict[str, Any] = {} if batch.kinds_N is None else {"kinds_N": batch.kinds_N}
        right_X, hits = targets_N[rows_X], torch.zeros((), dtype=torch.long, device=ids_N.device)

        def score(x_XD: Tensor, weight_VD: Tensor | None, **head: Any) -> Tensor:
            hits.add_((likeliest(x_XD, weight_VD, **head) == right_X).sum())
            return cross_entropy_fast(x_XD, weight_VD, right_X, **head)

        if isinstance(module, EncoderModel):  # its head and the loss are taken together, chunk by chunk
            x_ND, _ = module.hidden(ids_N, context, **kinds)
            total = module.scored(x_ND[rows_X], context, score)
        else:
            total = score(module(ids_N, context, rows_X, **kinds)[0], None)
        return Loss(total=total, count=len(rows_X), metrics={"accuracy": hits})


def corrupt(ids_N: Tensor, rule: Masked, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """(what the model sees, what it is to say): ids and targets, IGNORE where nothing was chosen.

    A function of the ids, the rule and the generator's state (None: torch's own), the same on every device; `ids_N` is
    left alone.
    """
    chosen, which, other = torch.rand(3, len(ids_N), generator=generator)
    never = sorted({rule.mask, *rule.special})
    count = rule.vocab - len(never)
    # A draw just below 1 times a large count would round up to the count in float32.
    other_N = (other.double() * count).long().clamp_(max=count - 1)
    for id in never:  # the j-th of those that may be put in
        other_N += other_N >= id
    chosen_N, which_N, other_N = (drawn.to(ids_N.device) for drawn in (chosen, which, other_N))
    chosen_N = (chosen_N < rule.share) & ~torch.isin(ids_N, torch.tensor(never, device=ids_N.device))
    swapped_N = chosen_N & (which_N >= rule.masked) & (which_N < rule.masked + rule.swapped)
    seen_N = torch.where(swapped_N, other_N, ids_N).masked_fill(chosen_N & (which_N < rule.masked), rule.mask)
    return seen_N, ids_N.masked_fill(~chosen_N, IGNORE)
