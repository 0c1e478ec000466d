"""What the comparisons that train share: the text, how long, how often; or all of it quickly.

Read next: lab/compare/training.py, cli/compare/measuring.py
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cutaway.lab.compare.training import Setting

Corpus = Annotated[str, typer.Option(metavar="TEXT", help="What is read: a file, a folder, a corpus by its name.")]
Steps = Annotated[int, typer.Option(min=1, help="Steps of each training.")]
Seeds = Annotated[int, typer.Option(min=1, help="Trainings of each part.")]
Seed = Annotated[int, typer.Option(help="The first of the seeds.")]
Quick = Annotated[bool, typer.Option("--quick", help="A look in about a minute: 60 steps, one seed, smaller models.")]

STEPS, SEEDS = 300, 3


def setting(corpus: str, steps: int, seeds: int, quick: bool = False) -> Setting:
    """The training that was asked for. Raises what is wrong with the text before anything is measured."""
    from cutaway.lab.compare.training import Setting, Text

    made = Setting(corpus=corpus, steps=steps, seeds=seeds)
    if quick:
        made = replace(made, steps=min(steps, 60), seeds=1, dim=64, layers=2, windows=32)
    Text.read(corpus, made.length)
    return made
