"""An exit sweep: what a model would say if it stopped behind each of its blocks, and what leaving early costs.

LayerSkip (Elhoushi et al. 2024, arXiv 2404.16710), section 5 and figure 2: the head is asked behind every block, over a
text. Of each block: how often its likeliest token is the full model's, and the perplexity of the text. Of each
threshold: behind how many blocks tokens leave that do so where they are that sure (CALM, arXiv 2207.07061), how often
they then say what the full model says, and the perplexity.
Departure: exits are judged on a text that is there already, so that all blocks are asked about the same places.
N tokens of the text · L blocks · V vocabulary.   Read next: infer/early_exit.py, cli/compare/exits.py
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.infer.language import Language
from cutaway.models.decoder import DecoderModel
from cutaway.nn.context import Context

ROWS = 64  # places whose logits are there at once
THRESHOLDS = (0.5, 0.7, 0.9, 0.99)


@dataclass(frozen=True, kw_only=True)
class Exit:
    """`blocks` passed in the mean, `faster`: all blocks over these. `agreement`: share of places where the likeliest
    token is the full model's. `loss` in nats a token. `threshold`: of those that leave on confidence; None where all
    leave behind the same block."""

    blocks: float
    faster: float
    agreement: float
    loss: float
    threshold: float | None = None

    @property
    def perplexity(self) -> float:
        """e to the loss."""
        return math.exp(self.loss)


@torch.inference_mode()
def sweep(
    language: Language, ids: Sequence[int], thresholds: Sequence[float] = THRESHOLDS
) -> tuple[tuple[Exit, ...], tuple[Exit, ...]]:
    """An exit for each block, the last one the full model; then one for each threshold, where tokens leave behind the
    first block that is so sure. Raises BadInput for a model that is no decoder and for fewer than two ids."""
    if not isinstance(language.module, DecoderModel):
        raise BadInput("has no next token to be sure of: it is no decoder", source=language.source)
    if len(ids) < 2:
        raise BadInput("is too short: two tokens at least", field="text")
    language.check_weights()
    best_LN, sure_LN, losses_LN = _asked(language, language.module, list(ids))
    blocks = len(best_LN)
    fixed = tuple(
        _exit(torch.full_like(best_LN[0], block), best_LN, losses_LN, threshold=None) for block in range(blocks)
    )
    leaving = []
    for threshold in thresholds:
        sure = sure_LN >= threshold
        sure[-1] = True  # who is never sure passes all blocks
        leaving.append(_exit(sure.int().argmax(0), best_LN, losses_LN, threshold=threshold))
    return fixed, tuple(leaving)


def _exit(block_N: Tensor, best_LN: Tensor, losses_LN: Tensor, threshold: float | None) -> Exit:
    """Each place leaves behind its own block."""
    passed = float(block_N.double().mean()) + 1.0
    agrees_N = best_LN.gather(0, block_N[None])[0] == best_LN[-1]
    return Exit(
        blocks=passed,
        faster=len(best_LN) / passed,
        agreement=float(agrees_N.double().mean()),
        loss=float(losses_LN.gather(0, block_N[None])[0].double().mean()),
        threshold=threshold,
    )


def _asked(language: Language, module: DecoderModel, ids: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Behind each block and at each place but the last: the likeliest token, how likely, and the loss of the next."""
    context = Context.of((len(ids),), device=language.device, forms=language.forms, want=frozenset({"residual"}))
    ids_N = torch.tensor(ids, device=language.device)
    _, report = module.hidden(ids_N, context)
    best, sure, losses = [], [], []
    for block in range(len(module.blocks)):
        x_ND, rows = report[f"blocks.{block}.residual_ND"][:-1], []
        for x_RD, next_R in zip(x_ND.split(ROWS), ids_N[1:].split(ROWS), strict=True):
            logprobs_RV = module.logits(x_RD, context).float().log_softmax(-1)
            likeliest = logprobs_RV.max(-1)
            rows.append((likeliest.indices, likeliest.values.exp(), -logprobs_RV.gather(1, next_R[:, None])[:, 0]))
        for kept, part in zip((best, sure, losses), zip(*rows, strict=True), strict=True):
            kept.append(torch.cat(part))
    return torch.stack(best), torch.stack(sure), torch.stack(losses)
