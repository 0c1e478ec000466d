"""`cutaway compare experts`: mixtures of experts beside a dense feed of equal work.

Read next: lab/compare/experts.py, cli/compare/trained.py
"""

from __future__ import annotations

from typing import Annotated

import typer

from cutaway.cli import threads
from cutaway.cli.compare.measuring import AsJson, Out, Run, compare, words
from cutaway.cli.compare.trained import SEEDS, STEPS, Corpus, Quick, Seed, Seeds, Steps, setting
from cutaway.cli.options import Attend

PARTS = "dense,softmax,softmax+loss,top-k+loss,sigmoid,sigmoid+bias"


def experts(
    context: typer.Context,
    parts: Annotated[str, typer.Option(metavar="NAME,...", help="Which.")] = PARTS,
    count: Annotated[int, typer.Option("--experts", min=1, help="Experts of a layer.")] = 8,
    top_k: Annotated[int, typer.Option(min=1, help="Experts that a token uses.")] = 2,
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
    """Mixtures of experts beside a dense feed of equal work: loss, load, entropy, starved experts.

    Small decoders are trained from scratch on the characters of a text, each with several seeds. Stopped, the same
    command goes on; done, it shows its folder.
    """
    threads.apply(context)
    from cutaway.lab.compare.experts import ExpertComparison

    comparison = ExpertComparison(
        parts=words(parts, "--parts"),
        count=count,
        top_k=top_k,
        setting=setting(corpus, steps, seeds, quick),
        seed=seed,
        attend=attend,
    )
    compare("experts", comparison, folder, out=out, as_json=as_json)
