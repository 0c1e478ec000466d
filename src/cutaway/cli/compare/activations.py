"""`cutaway compare activations`: what bends the hidden vector of a feed-forward, gated and not.

Read next: lab/compare/activations.py, cli/compare/trained.py
"""

from __future__ import annotations

from typing import Annotated

import typer

from cutaway.cli import threads
from cutaway.cli.compare.measuring import AsJson, Out, Run, compare, words
from cutaway.cli.compare.trained import SEEDS, STEPS, Corpus, Quick, Seed, Seeds, Steps, setting
from cutaway.cli.options import Attend

PARTS = "relu,gelu,silu,glu,swiglu,geglu"


def activations(
    context: typer.Context,
    parts: Annotated[str, typer.Option(metavar="NAME,...", help="Which.")] = PARTS,
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
    """What bends the hidden vector of a feed-forward, gated and not: the loss at equal weights.

    Small decoders are trained from scratch on the characters of a text, each with several seeds. Stopped, the same
    command goes on; done, it shows its folder.
    """
    threads.apply(context)
    from cutaway.lab.compare.activations import ActivationComparison

    comparison = ActivationComparison(
        parts=words(parts, "--parts"),
        setting=setting(corpus, steps, seeds, quick),
        seed=seed,
        attend=attend,
    )
    compare("activations", comparison, folder, out=out, as_json=as_json)
