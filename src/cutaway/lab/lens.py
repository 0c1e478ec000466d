"""What happens inside while a model reads a prompt: residual norms, attention entropies, and early guesses.

The logit lens (nostalgebraist 2020): the model's last norm and head are applied to the residual behind every block, as
if it were the last:   guess_l = softmax(head(norm(x_l))).   Entropy of a head: -sum_s w_s ln w_s, at most ln(tokens).
N tokens · X of them that are looked at · D model dim · V vocabulary · H query head.
Read next: models/decoder.py, nn/attention/grouped.py
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.infer.language import Language
from cutaway.nn.context import Context


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A next token, as text to be shown, and how likely it is held."""

    token: int
    piece: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Behind one block. Per place that is looked at: `norms`, the residual's length; `guesses`, best first.

    `entropies`: per place and head, in nats; empty for a mixer that does not attend.
    """

    block: int
    norms: tuple[float, ...]
    entropies: tuple[tuple[float, ...], ...]
    guesses: tuple[tuple[Guess, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Lens:
    """`text` and `pieces`: what was read. `places`: the positions that were looked at. `layers`: one a block."""

    text: str
    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    places: tuple[int, ...]
    layers: tuple[Layer, ...]

    def share(self, layer: Layer, place: int) -> tuple[float, ...]:
        """The entropies of a layer at a place as shares of the largest possible, ln(tokens seen); 0 for one token."""
        most = math.log(self.places[place] + 1)
        return tuple(min(1.0, nats / most) if most else 0.0 for nats in layer.entropies[place])

    def first_right(self, place: int) -> int | None:
        """The first block from which on the best guess is the last block's."""
        best = [layer.guesses[place][0].token for layer in self.layers]
        settled = None
        for block in reversed(range(len(best))):
            if best[block] != best[-1]:
                break
            settled = block
        return settled


@torch.inference_mode()
def look(language: Language, ids: Sequence[int], *, places: int = 1, top: int = 3) -> Lens:
    """Read `ids` once and look at the last `places` of them. BadInput for no ids and for numbers not finite."""
    if not ids:
        raise BadInput("there is nothing to look at", field="prompt")
    language.check_weights()
    module = language.module
    if not language.speaks:
        raise BadInput("guesses at the next token are a decoder's; an encoder makes none", source=language.source)
    context = Context.of(
        (len(ids),), device=language.device, forms=language.forms, want=frozenset({"attention", "residual"})
    )
    _, report = module.hidden(torch.tensor(list(ids), device=language.device), context)
    shown = range(max(0, len(ids) - places), len(ids))
    layers = []
    for block in range(len(language.spec.blocks)):
        x_XD = report[f"blocks.{block}.residual_ND"][shown.start :]
        if not bool(torch.isfinite(x_XD).all()):
            raise BadInput(f"block {block} gives numbers that are not finite", source=language.source, field="weights")
        entropy = report.get(f"blocks.{block}.mixer.entropy_NH")
        logits_XV = module.logits(x_XD, context).float()
        layers.append(
            Layer(
                block=block,
                norms=tuple(x_XD.float().norm(dim=-1).tolist()),
                entropies=() if entropy is None else tuple(map(tuple, entropy[shown.start :].tolist())),
                guesses=tuple(_guesses(language, row_V, top) for row_V in logits_XV.softmax(-1)),
            )
        )
    pieces = tuple(piece(language, token) for token in ids)
    return Lens(
        text="".join(pieces) if language.tokenizer is None else language.tokenizer.decode(ids, special=True),
        tokens=tuple(ids),
        pieces=pieces,
        places=tuple(shown),
        layers=tuple(layers),
    )


def _guesses(language: Language, probabilities_V: Tensor, top: int) -> tuple[Guess, ...]:
    best = probabilities_V.topk(min(top, probabilities_V.numel()))
    return tuple(
        Guess(token=token, piece=piece(language, token), probability=probability)
        for token, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    )


def piece(language: Language, token: int) -> str:
    """A token as text to be shown: line ends and other invisible characters written out, `#17` without a tokenizer."""
    if language.tokenizer is None:
        return f"#{token}"
    text = language.tokenizer.token(token)
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
