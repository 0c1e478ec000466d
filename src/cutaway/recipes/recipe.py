"""A recipe: a complete training run as a value. What is learned from what is its task; how, is everything else.

Read next: recipes/language.py (a task), recipes/training.py (what runs it)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from torch import nn

from cutaway.base.errors import BadInput
from cutaway.base.seeds import LIMIT
from cutaway.data.batches import Resumable
from cutaway.ops.forms import Forms
from cutaway.train.loss import Objective
from cutaway.train.schedules import Schedule


class OptimiserValue(Protocol):
    """AdamW, Muon and the others: a value that builds."""

    def build(self, module: nn.Module) -> Any: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A task made ready: text read, tokenizer trained, model built.

    `validate`: (module) -> figures, `val_loss` among them. `sample`: a text that shows what the model can do.
    `conclude`: (module) -> figures that are worked out once, at the end.
    `save`: writes the model where other programs can open it. `data`: a mark of all that is read, by which a resumed
    run knows it again. `facts`: lines for a person. `flops`: of one token, forward and backward.
    `draws`: whether model or objective draw random numbers (dropout, masks), which threads must not do at once.
    """

    module: nn.Module
    objective: Objective
    batches: Resumable
    validate: Callable[[nn.Module], dict[str, float]]
    sample: Callable[[nn.Module], str]
    save: Callable[[nn.Module, Path], None]
    data: dict[str, str]
    facts: tuple[str, ...]
    flops: float
    draws: bool = False
    conclude: Callable[[nn.Module], dict[str, float]] | None = None


@dataclass(frozen=True, kw_only=True)
class Share:
    """Process `rank` of `world` that take batches together."""

    rank: int = 0
    world: int = 1


class Task(Protocol):
    """What is learned from what."""

    def prepare(self, folder: Path, seed: int, device: str, share: Share, forms: Forms) -> Prepared:
        """Reads, trains the tokenizer (or finds the one in `folder`, the run's), and builds the model.

        `share`: what part of each batch is this process's. `forms`: what the model runs on while it learns.
        """
        ...

    def outline(self) -> tuple[nn.Module, int, int]:
        """Without reading anything: the model on the meta device, tokens of a batch, bytes of activations."""
        ...


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """`accumulate`: batches of a step, on each of `processes`. `clip`: the greatest length of the gradient. `evaluate`,
    `save`: steps between two evaluations, two checkpoints; `keep`: how many of the latest checkpoints stay, besides the
    best. `until`: a validation loss at which it ends early. `attend`: the form of attention (ops/choice.py).
    `device`: None for the fastest kind that there is.
    """

    about: str
    task: Task
    optimiser: OptimiserValue
    schedule: Schedule
    steps: int
    accumulate: int = 1
    processes: int = 1
    clip: float | None = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    attend: Literal["naive", "tiled", "sdpa", "kernels", "triton"] | None = None
    evaluate: int = 250
    save: int = 500
    keep: int = 2
    until: float | None = None
    seed: int = 1337
    device: str | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "processes", "evaluate", "save", "keep"):
            if getattr(self, name) < 1:
                raise BadInput(f"must be at least 1, is {getattr(self, name)}", field=name)
        if not 0 <= self.seed < LIMIT:
            raise BadInput(f"must be from 0 to {LIMIT - 1}, is {self.seed}", field="seed")
        if self.clip is not None and self.clip <= 0:
            raise BadInput(f"must be above 0, is {self.clip}", field="clip")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a sample is drawn: so many tokens behind each prompt."""

    prompts: tuple[str, ...] = ("\n",)
    tokens: int = 200
    temperature: float = 0.8
    top_k: int | None = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.prompts or self.tokens < 1:
            raise BadInput("needs a prompt and at least 1 token", field="Sampling.prompts")
