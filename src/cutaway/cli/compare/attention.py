"""`cutaway compare attention`: what each kind of attention costs and takes, over contexts.

Read next: lab/compare/attention.py, cli/compare/measuring.py
"""

from __future__ import annotations

from typing import Annotated

import typer

from cutaway.base.cores import cores
from cutaway.cli import threads
from cutaway.cli.compare.measuring import AsJson, Out, Run, compare, tokens, words
from cutaway.cli.compare.trained import SEEDS, STEPS, Corpus, Seeds, Steps, setting
from cutaway.cli.options import Attend

PARTS = "mha,gqa:2,mqa,mla:64,window:256,nsa"
CONTEXTS = "512,2k,8k,32k"


def attention(
    context: typer.Context,
    parts: Annotated[
        str,
        typer.Option(
            metavar="NAME[:NUMBER],...",
            help="Which: mha, gqa:KV-HEADS, mqa, mla:RANK, window:TOKENS, sinks:TOKENS, alibi, nsa:KV-HEADS, "
            "block-sparse:TOKENS, delta:KEY-HEADS.",
        ),
    ] = PARTS,
    contexts: Annotated[
        str, typer.Option("--context", metavar="TOKENS,...", help="Behind how many tokens.")
    ] = CONTEXTS,
    dim: Annotated[int, typer.Option(help="Width of the layer.")] = 512,
    heads: Annotated[int, typer.Option(help="Query heads.")] = 8,
    seed: Annotated[int, typer.Option(help="Of weights and inputs.")] = 0,
    attend: Attend = None,
    train: Annotated[
        bool, typer.Option("--train", help="Also train small models: the loss on text, passkeys and recall.")
    ] = False,
    corpus: Corpus = "shakespeare",
    steps: Steps = STEPS,
    seeds: Seeds = SEEDS,
    folder: Run = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """What each kind of attention costs and takes: parameters, FLOPs, cache, time and memory against the context.

    One layer alone, in float32 on the processor, each part at each context in a process of its own. Times want a
    machine that does nothing else. Stopped, the same command goes on; done, it shows its folder.
    """
    threads.apply(context) if train else threads.yield_when_busy()  # what is trained runs here, the layers elsewhere
    from cutaway.lab.compare.attention import AttentionComparison
    from cutaway.lab.compare.attention_training import AttentionTraining

    comparison = AttentionComparison(
        parts=words(parts, "--parts"),
        contexts=tokens(contexts, "--context"),
        dim=dim,
        heads=heads,
        threads=threads.wanted(context) or cores(),
        seed=seed,
        attend=attend,
        train=AttentionTraining(setting=setting(corpus, steps, seeds)) if train else None,
    )
    compare("attention", comparison, folder, out=out, as_json=as_json, timed=True)
