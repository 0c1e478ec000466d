"""What runs a recipe: the loop's own body, which records, evaluates, samples and saves.

Read next: train/fit.py, train/run.py
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from cutaway.base.errors import BadInput
from cutaway.data.prefetch import Prefetch
from cutaway.ops.forms import attended
from cutaway.recipes.crew import Crew, muster
from cutaway.recipes.recipe import Prepared, Recipe
from cutaway.train.cores import OnCores, one_core
from cutaway.train.fit import Step, fit
from cutaway.train.guard import Guard, Held
from cutaway.train.loss import Objective
from cutaway.train.metrics import Line
from cutaway.train.precision import named
from cutaway.train.randomness import restore, snapshot
from cutaway.train.run import Run
from cutaway.train.schedules import Scheduled

SMALL = 4_000_000  # weights; at 1 million, two cores in every operation took ten times Muon's processor time


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What a watcher sees after a step: its line of metrics.jsonl, and a sample where one was drawn."""

    line: Line
    sample: str | None = None


@dataclass(kw_only=True, eq=False)
class Training:
    """A recipe, made ready to run in a folder. `start`: steps that were made before; `seconds`: how long they took."""

    recipe: Recipe
    run: Run
    crew: Crew
    prepared: Prepared
    module: nn.Module
    optimiser: Scheduled
    held: Held
    objective: Objective
    pieces: bool = False  # whether a batch is cut in pieces that have a core each
    start: int = 0
    ended: bool = False
    seconds: float = 0.0
    best: float | None = None

    @classmethod
    def ready(cls, recipe: Recipe, run: Run, say: Callable[[str], None], crew: Crew | None = None) -> Training:
        """Prepares the task, and goes on from the run's last checkpoint if there is one. `crew`: from `muster`.

        Raises BadInput where the data are not those that the run was begun with.
        """
        crew = crew or muster(recipe)
        if not crew.first:
            crew.wait()  # until the first has cleared up and trained the tokenizer
        found = run.resume(say) if crew.first else run.checkpoints.latest(say)
        prepared = recipe.task.prepare(run.folder, recipe.seed, crew.device, crew.share, attended(recipe.attend))
        if crew.first:
            crew.wait()
        if crew.device.startswith("cuda"):
            prepared = replace(prepared, batches=Prefetch(prepared.batches))
        run.checkpoints.keep = recipe.keep
        guard = Guard(prepared.module, world=crew.world)
        module, objective = crew.spread(prepared)
        training = cls(
            recipe=recipe,
            run=run,
            crew=crew,
            prepared=prepared,
            module=module,
            optimiser=Scheduled(recipe.optimiser.build(prepared.module), recipe.schedule),
            held=guard.hold(named(recipe.precision)),
            objective=guard.watch(objective),
            pieces=isinstance(objective, OnCores),
        )
        if found is not None:
            training.start = found[0]
            training._restore(found[1])
        return training

    def steps(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Moment]:
        """Makes the steps that are left, yielding after each. Once `stop` says so, saves and ends.

        At the end, or when stopped, the run's folder holds a model to open.
        """
        recipe, run, prepared, guard = self.recipe, self.run, self.prepared, self.held.guard
        if self.start == 0 and self.crew.first:
            run.sample("before", self._sample())
        begun, index = time.perf_counter() - self.seconds, self.start
        last = begun + self.seconds
        made = fit(
            self.module,
            self.objective,
            prepared.batches,
            self.optimiser,
            steps=0 if self.ended else recipe.steps,
            start=self.start,
            accumulate=recipe.accumulate,
            clip=recipe.clip,
            precision=self.held,
            world=self.crew.world,
        )
        for step in self._alone(made):
            now, index = time.perf_counter(), step.index
            line: Line = {
                "step": index,
                "loss": step.loss,
                "norm": step.norm,
                "rate": self.optimiser.rate,
                "tokens": step.tokens * recipe.processes,
                "tokens_per_second": round(step.tokens * recipe.processes / (now - last), 1),
                "seconds": round(now - begun, 3),
                **step.metrics,
            }
            news = [str(event) for event in guard.news()]
            if news:
                line["guard"] = news
            self.ended, sample = index == recipe.steps, None
            if self.crew.first and (index % recipe.evaluate == 0 or index == recipe.steps):
                line |= prepared.validate(prepared.module)
                sample = self._sample()
                run.sample(f"step-{index:08}", sample)
                self.ended |= recipe.until is not None and line["val_loss"] <= recipe.until
                if self.ended and prepared.conclude is not None:
                    with one_core(self.small):
                        line |= prepared.conclude(prepared.module)
            last = time.perf_counter()
            if self.crew.first:
                run.record(line)
            self.seconds = last - begun
            self.ended = self.crew.agree(self.ended)
            stopped = self.crew.agree(self.ended or stop())
            if stopped or index % recipe.save == 0:
                self._save(index, line.get("val_loss"))
                self.crew.wait()
            yield Moment(line=line, sample=sample)
            last = time.perf_counter()
            if stopped:
                break
        self._finish()

    @property
    def small(self) -> bool:
        """Whether cores are better used side by side, each on operations of its own, than for one operation."""
        return sum(weight.numel() for weight in self.prepared.module.parameters()) < SMALL

    def _alone(self, steps: Iterator[Step]) -> Iterator[Step]:
        """The same steps. Where the pieces of a batch have cores of their own, what is left to this thread, the
        optimiser's work, is left to one core."""
        while True:
            with one_core(self.pieces and self.small):
                step = next(steps, None)
            if step is None:
                return
            yield step

    def _sample(self) -> str:
        with one_core(self.small):
            return self.prepared.sample(self.prepared.module)

    def _finish(self) -> None:
        """Leaves a model to open in the run's folder."""
        prepared, run = self.prepared, self.run
        if not self.crew.first:
            return
        run.sample("after", self._sample())
        with run.writing():
            prepared.save(prepared.module, run.folder)

    def _save(self, index: int, score: float | None) -> None:
        if self.crew.first:
            self.run.save(index, self._state(), score)

    def _state(self) -> dict[str, Any]:
        return {
            "module": dict(self.prepared.module.state_dict()),
            "optimiser": self.optimiser.state_dict(),
            "batches": self.prepared.batches.state(),
            "random": snapshot(),
            "held": self.held.state_dict(),
            "data": self.prepared.data,
            "seconds": self.seconds,
            "ended": self.ended,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        for name, mark in self.prepared.data.items():
            if state["data"].get(name) != mark:
                message = "is not what the run was begun with: a run goes on with its own data, or starts anew"
                raise BadInput(message, source=self.run.folder, field=name)
        self.prepared.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.prepared.batches.restore(state["batches"])
        self.held.load_state_dict(state["held"])
        self.seconds, self.ended = float(state["seconds"]), bool(state["ended"])
        restore(state["random"])
