"""`cutaway train RECIPE [field=value ...] --run FOLDER`: a model from raw text, in a folder to leave and resume.

Read next: cli/panel.py, recipes/training.py, train/run.py
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutaway.base.errors import BadInput
from cutaway.base.paths import expand
from cutaway.cli import console, threads
from cutaway.cli.machine import hardware
from cutaway.cli.options import Attend

if TYPE_CHECKING:
    from cutaway.recipes.crew import Crew
    from cutaway.recipes.recipe import Recipe
    from cutaway.recipes.training import Training
    from cutaway.train.run import Run

RUNS = Path("runs")  # where a run goes that was given no folder


def train(
    context: typer.Context,
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="One of those that `cutaway recipes` lists.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="FIELD=VALUE", help="What is to be other than in the recipe.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--run", metavar="FOLDER", help="Where the run is kept (runs/RECIPE if not told).")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="FOLDER", help="Continue the run in this folder.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build nothing, read nothing: parameters, memory and steps.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write events for TensorBoard into the run's folder.")
    ] = False,
    attend: Attend = None,
) -> None:
    """Train a model by a recipe, or continue a run.

    The run's folder holds the recipe, the figures of each step, samples, checkpoints and, at the end, a model for the
    other commands and for transformers. Ctrl-C saves and stops; a run that was killed continues with --resume.
    """
    if resume is not None:
        if recipe is not None or folder is not None or dry_run or attend is not None:
            raise BadInput("continues a run as it was begun: give it nothing but the folder", source="--resume")
        _go(context, expand(resume), None, tensorboard)
        return
    if recipe is None:
        raise BadInput("name a recipe (`cutaway recipes` lists them), or --resume FOLDER", source="train")
    threads.apply(context)
    from cutaway.ops.choice import choose_attend
    from cutaway.recipes.table import made

    value = made(recipe, [*(changes or []), *([] if attend is None else [f"attend={attend}"])])
    choose_attend(value.attend)  # what cannot run here is said before anything begins
    if dry_run:
        _outline(recipe, value)
        return
    _go(context, expand(folder or RUNS / recipe), (recipe, value), tensorboard)


def _go(context: typer.Context, folder: Path, new: tuple[str, Recipe] | None, tensorboard: bool) -> None:
    threads.apply(context)
    from cutaway.recipes.crew import muster
    from cutaway.recipes.table import VALUES
    from cutaway.train.run import Run

    crew = muster(new[1] if new is not None else Run.open(folder).recipe(VALUES))
    try:
        if new is not None and crew.first:
            Run.create(folder, new[0], new[1], hardware=hardware())
        crew.wait()
        run = Run.open(folder)
        try:
            with run.held() if crew.first else nullcontext():
                _train(run.recipe(VALUES), run, crew, tensorboard)
        except BaseException as error:  # a missing corpus, say: the same command has to work once it is there
            gone = new is not None and crew.first and run.discard()
            if isinstance(error, KeyboardInterrupt) and crew.first and not gone:
                console.say(
                    f"interrupted: cutaway train --resume {folder} goes on from the last checkpoint, if there is one"
                )
            raise
    finally:
        crew.leave()


def _train(recipe: Recipe, run: Run, crew: Crew, tensorboard: bool) -> None:
    from cutaway.cli.panel import watcher
    from cutaway.recipes.training import Training

    say = console.say if crew.first else _silence
    say(f"{run.name}: {recipe.about}")
    training = Training.ready(recipe, run, say, crew)
    for fact in training.prepared.facts:
        say(fact)
    if training.start:
        say(f"continuing behind step {training.start:,}")
    line: dict[str, Any] = {}
    peak = _peak(training) if crew.first else None
    with stopping() as stopped, ExitStack() as stack:
        events = stack.enter_context(closing(_events(run))) if tensorboard and crew.first else None
        with watcher(recipe.steps, training.start, training.prepared.flops, peak) as panel:
            for moment in training.steps(stopped.is_set):
                line = moment.line
                if crew.first:
                    panel.show(moment)
                if events is not None:
                    events.add(line)
    _end(training, line, stopped.is_set(), say)


def _end(training: Training, line: dict[str, Any], stopped: bool, say: Callable[[str], None]) -> None:
    """Says what came of it. A run that was stopped ends with 130, as whoever presses Ctrl-C expects."""
    from cutaway.cli.panel import duration

    folder = training.run.folder
    if stopped and not training.ended:
        say(f"stopped and saved behind step {line['step']:,}: continue with cutaway train --resume {folder}")
        raise typer.Exit(130)
    figures = f"loss {line['loss']:.4f}" if line else "nothing was left to do"
    if "val_loss" in line:
        figures += f", validation {line['val_loss']:.4f}"
    if "word_share" in line:
        figures += f", {100 * line['word_share']:.0f}% of {line['words']} words it wrote are words of the corpus"
    say(f"{figures}, in {duration(training.seconds)}. {_hint(folder)}")
    if training.crew.first:
        print(folder)


def _hint(folder: Path) -> str:
    """A command that shows what a finished run can do."""
    from cutaway.models.encoder import Encoder
    from cutaway.weights.huggingface import CONFIG, read_spec

    name = f'"{folder}"' if " " in str(folder) else str(folder)
    if not (folder / CONFIG).is_file():
        return f"No other program has a name for a model of this shape: its weights are in {folder / 'checkpoints'}"
    if isinstance(read_spec(folder)[1], Encoder):  # it fills in masks and writes no text
        return f"Look into it: cutaway open {name}"
    if (folder / "chat_template.jinja").is_file():
        return f'Try it: cutaway generate {name} "TEXT", or cutaway chat {name}'
    return f'Try it: cutaway generate {name} "TEXT"'


def _silence(text: str) -> None:
    """What the other processes say: the first says it for all."""


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """While this lasts, the first Ctrl-C (or SIGTERM) sets the event, for the step under way to be finished; a second
    one interrupts at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _peak(training: Training) -> float | None:
    """FLOP/s of this machine's float32 products; None where nobody watches, and on an accelerator."""
    if not console.messages().is_terminal or next(training.prepared.module.parameters()).device.type != "cpu":
        return None
    import torch

    from cutaway.lab.measure import matmul_rate

    return matmul_rate(torch.float32)


def _events(run: Run) -> Any:
    from cutaway.train.events import Events

    return Events(run.folder / "events")


def _outline(name: str, recipe: Recipe) -> None:
    """What a run would take, from the model on the meta device."""
    import torch

    module, tokens, activations = recipe.task.outline()
    kept = recipe.optimiser.build(module).state_dict().values()
    state = sum(held.nbytes for held in kept if isinstance(held, torch.Tensor))
    parameters = sum(weight.numel() for weight in module.parameters())
    step = tokens * recipe.accumulate * recipe.processes
    rows = [
        ("parameters", f"{parameters:,}"),
        ("processes", f"{recipe.processes}"),
        ("tokens a step", f"{step:,}"),
        ("steps", f"{recipe.steps:,}"),
        ("tokens in all", f"{step * recipe.steps:,}"),
        ("FLOPs in all", f"{6.0 * parameters * step * recipe.steps:.2e} (6 a parameter and token)"),
        ("weights, float32", console.megabytes(4 * parameters)),
        ("gradients", console.megabytes(4 * parameters)),
        ("optimiser state", console.megabytes(state)),
        ("activations of a batch", f"about {console.megabytes(activations)}"),
        ("memory of a process", f"about {console.megabytes(8 * parameters + state + activations)}"),
    ]
    console.say(f"{name}: {recipe.about}")
    console.show_table((console.Column(title="what"), console.Column(title="how much", align="right")), rows)
