"""Early exit on confidence: a token leaves the blocks where the model is already sure of the next one.

CALM (Schuster et al. 2022, arXiv 2207.07061), section 3.5, "softmax response"; LayerSkip (arXiv 2404.16710):
  behind each block b of `after`:  p = softmax(head(norm(x_b)));   where max p >= threshold, the next token is of p
Keys and values of the blocks that a token did not enter are made later: its residual waits before them, and whichever
token goes deeper takes all that wait along, in one pass (EE-LLM, Chen et al. 2023, arXiv 2312.04916, section 4.1). So
the cache is exactly the full model's for the text as it stands, and what an exit costs is the token that it chose.
CALM instead copies the residual upwards, which is cheaper and inexact. Prompts and guesses pass through all blocks.
A model that was not trained for it says little before its last blocks: `cutaway compare exits` shows how little.
N tokens, flat · D model dim · V vocabulary.   Read next: infer/continuation.py, lab/exits.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.infer.continuation import Continuation
from cutaway.models.decoder import DecoderModel
from cutaway.nn.cache import CacheError
from cutaway.nn.context import CacheView, Context
from cutaway.ops.forms import Forms


@dataclass(frozen=True, kw_only=True)
class Confident:
    """`after`: numbers of blocks behind which the head is asked. `threshold`: how likely its likeliest token must be;
    above 1 nobody leaves."""

    after: tuple[int, ...]
    threshold: float = 0.9

    def __post_init__(self) -> None:
        object.__setattr__(self, "after", tuple(self.after))
        if not self.after or any(type(one) is not int or one < 1 for one in self.after):
            raise BadInput("must be numbers of blocks, at least one", field="after")
        if list(self.after) != sorted(set(self.after)):
            raise BadInput("must grow from one to the next", field="after")
        if not self.threshold >= 0.0:  # NaN is none
            raise BadInput(f"must be 0 or more, is {self.threshold}", field="threshold")


class Leaving(Continuation):
    """A continuation whose single tokens may leave early. `left`: behind how many blocks each of them did."""

    def __init__(self, module: DecoderModel, forms: Forms, exits: Confident, **told: Any):
        if exits.after[-1] >= len(module.blocks):
            raise BadInput(f"the model has {len(module.blocks)} blocks: leave before the last", field="after")
        self.exits = exits
        self.left: list[int] = []
        super().__init__(module, forms, **told)

    def _start(self, room: int) -> None:
        super()._start(room)
        self._waiting: dict[int, Tensor] = {}  # blocks passed -> the residuals that stand behind the last of them

    def rewind(self, ids: Sequence[int], room: int) -> list[int]:
        self._settle()
        return super().rewind(ids, room)

    def attempt(self, ids: Sequence[int], guesses: Sequence[int]) -> Tensor:
        if guesses:
            self._settle()
        return super().attempt(ids, guesses)

    @property
    def depth(self) -> float:
        """Blocks that single tokens passed before the one behind them was chosen, in the mean."""
        return sum(self.left) / len(self.left) if self.left else float(len(self.module.blocks))

    @torch.inference_mode()
    def _pass(self, ids: Sequence[int], last: int) -> Tensor:
        context = self._seen(len(ids), len(self.ids))
        x_ND = self.module.entered(torch.tensor(ids, device=self.device), context)
        logits_XV = self._climb(x_ND, len(self.ids) + len(ids), last, may_leave=len(ids) == 1)
        self.cache.advance((len(ids),))
        self.ids += ids
        return logits_XV

    def _climb(self, x_ND: Tensor, end: int, last: int, *, may_leave: bool) -> Tensor:
        """Takes the residuals of the tokens before `end` through the blocks, and those that wait with them; returns the
        logits of the last ones, from as far as they went."""
        passed, blocks = 0, list(self.module.blocks)
        while passed < len(blocks):
            if passed in self._waiting:
                x_ND = torch.cat([self._waiting.pop(passed), x_ND])
            if len(x_ND):
                x_ND, _ = blocks[passed](x_ND, self._seen(len(x_ND), end - len(x_ND)).at(passed))
            passed += 1
            if may_leave and passed in self.exits.after:
                logits_XV = self.module.logits(x_ND[-1:], self._seen(1, end - 1))
                if float(logits_XV.float().softmax(-1).amax()) >= self.exits.threshold:
                    self._wait(passed, x_ND)
                    self.left.append(passed)
                    return logits_XV
        if may_leave:
            self.left.append(passed)
        if not last:
            return x_ND[:0]
        return self.module.logits(x_ND[len(x_ND) - last :], self._seen(last, end - last))

    def _wait(self, passed: int, x_ND: Tensor) -> None:
        before = self._waiting.get(passed)
        self._waiting[passed] = x_ND if before is None else torch.cat([before, x_ND])

    @torch.inference_mode()
    def _settle(self) -> None:
        """Nobody waits any more: the cache holds all rows of all tokens."""
        if self._waiting:
            none_ND = next(iter(self._waiting.values()))[:0]
            self._climb(none_ND, len(self.ids), 0, may_leave=False)

    def _seen(self, count: int, held: int) -> Context:
        """A pass of so many tokens behind `held` of them, whatever other blocks hold."""
        view = Lagging(self.cache, held)
        return Context.of(
            (count,),
            cache=view,
            device=self.device,
            forms=self.forms,
            prompts=(self.prompt,),
            narrow=self.forms.narrow(count, self.formats),
        )


class Lagging:
    """The cache of one sequence as a block sees it that is behind others. Implements `nn.context.CacheView`."""

    def __init__(self, cache: CacheView, held: int):
        self.cache, self.held = cache, held

    @property
    def lengths(self) -> tuple[int, ...]:
        return (self.held,)

    def append(self, layer: int, name: str, rows: Tensor, counts: tuple[int, ...]) -> None:
        self.cache.append(layer, name, rows, counts)

    def read(self, layer: int, name: str) -> tuple[Tensor, tuple[int, ...]]:
        return self.cache.read(layer, name)

    def replace(self, layer: int, name: str, rows: Tensor, counts: tuple[int, ...] | None = None) -> None:
        self.cache.replace(layer, name, rows, counts)

    def advance(self, counts: tuple[int, ...]) -> None:
        raise CacheError("the cache is advanced once, behind all blocks")

    def truncate(self, sequence: int, length: int) -> None:
        self.cache.truncate(sequence, length)

    def snapshot(self, sequence: int) -> Any:
        return self.cache.snapshot(sequence)

    def restore(self, sequence: int, mark: Any) -> None:
        self.cache.restore(sequence, mark)
