"""`cutaway compare positions`: the loss at the trained length, and beyond it.

Read next: lab/compare/positions.py, cli/compare/trained.py
"""

from __future__ import annotations

from typing import Annotated

import typer

from cutaway.cli import threads
from cutaway.cli.compare.measuring import AsJson, Out, Run, compare, tokens, words
from cutaway.cli.compare.trained import SEEDS, STEPS, Corpus, Quick, Seed, Seeds, Steps, setting
from cutaway.cli.options import Attend

PARTS = "learned,sinusoidal,rope,alibi,none"


def positions(
    context: typer.Context,
    parts: Annotated[str, typer.Option(metavar="NAME,...", help="Which.")] = PARTS,
    beyond: Annotated[str, typer.Option(metavar="TIMES,...", help="How many times the trained length.")] = "2,4,8",
    corpus: Corpus = "shakespeare",
    steps: Steps = STEPS,
    seeds: Seeds = SEEDS,
    seed: Seed = 0,
    quick: Quick = False,
    attend: Attend = None,
    folder: Run = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Positions: the loss at the trained length and beyond it, RoPE also with its frequencies scaled.

    Small decoders are trained from scratch on the characters of a text, each with several seeds. Stopped, the same
    command goes on; done, it shows its folder.
    """
    threads.apply(context)
    from cutaway.lab.compare.positions import PositionComparison

    comparison = PositionComparison(
        parts=words(parts, "--parts"),
        beyond=tokens(beyond, "--beyond"),
        setting=setting(corpus, steps, seeds, quick),
        seed=seed,
        attend=attend,
    )
    compare("positions", comparison, folder, out=out, as_json=as_json)
