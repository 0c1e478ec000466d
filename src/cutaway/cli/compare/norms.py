"""`cutaway compare norms`: norms by kind and place, and the depth at which training breaks.

Read next: lab/compare/norms.py, cli/compare/trained.py
"""

from __future__ import annotations

from typing import Annotated

import typer

from cutaway.cli import threads
from cutaway.cli.compare.measuring import AsJson, Out, Run, compare, words
from cutaway.cli.compare.trained import SEEDS, STEPS, Corpus, Quick, Seed, Seeds, Steps, setting
from cutaway.cli.options import Attend

PARTS = "pre-layer,pre-rms,pre-batch,post-layer,post-rms,post-batch,none"


def norms(
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
    """Norms by kind and place: the loss at equal weights, and the depth at which training breaks.

    Small decoders are trained from scratch on the characters of a text, each with several seeds. Stopped, the same
    command goes on; done, it shows its folder.
    """
    threads.apply(context)
    from cutaway.lab.compare.norms import Deep, NormComparison

    comparison = NormComparison(
        parts=words(parts, "--parts"),
        deep=Deep(depths=(4, 16), steps=min(steps, 30)) if quick else Deep(),
        setting=setting(corpus, steps, seeds, quick),
        seed=seed,
        attend=attend,
    )
    compare("norms", comparison, folder, out=out, as_json=as_json)
