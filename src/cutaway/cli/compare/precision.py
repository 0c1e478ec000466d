"""`cutaway compare precision MODEL`: weights and cache in every precision: bytes, perplexity, tokens a second.

Read next: lab/compare/precision.py, cli/compare/measuring.py
"""

from __future__ import annotations

from typing import Annotated

import typer

from cutaway.base.cores import cores
from cutaway.base.errors import BadInput
from cutaway.cli import threads
from cutaway.cli.compare.measuring import AsJson, Out, Run, compare
from cutaway.cli.data import located
from cutaway.cli.get import bring
from cutaway.cli.opening import ModelName
from cutaway.cli.options import Attend
from cutaway.weights.shelf import SHELF, refuse_mute

DEMO = "shakespeare"
NONE = "none"
WEIGHTS = (
    "as-is;float32;bfloat16;int8:tensor;int8:row;int4:row;int4:group=128;int4:group=64;int4:group=64,gptq;"
    "int4:group=32;int4:group=32,asymmetric;q8_0;q4_1;q4_0"
)


def precision(
    context: typer.Context,
    model: ModelName,
    text: Annotated[str, typer.Option(metavar="FILE", help="What is read: its last tenth. Or a corpus's name.")] = DEMO,
    weights: Annotated[
        str, typer.Option(metavar="NAME;...", help="Precisions of the weights, with semicolons between, or none.")
    ] = WEIGHTS,
    caches: Annotated[
        str, typer.Option("--cache", metavar="NAME,...", help="Precisions of keys and values, or none.")
    ] = "float32,bfloat16,int8",
    passages: Annotated[int, typer.Option(help="How many passages of the text are read.")] = 4,
    length: Annotated[int, typer.Option(help="Tokens of a passage.")] = 512,
    attend: Attend = None,
    folder: Run = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """What a model loses and gains in each precision: bytes, perplexity, tokens a second.

    Its matrices in float32, bfloat16, 8 and 4 bits; its keys and values in float32, bfloat16 and 8 bits. Each in a
    process of its own; times want a machine that does nothing else. Stopped, the same command goes on.
    """
    threads.yield_when_busy()
    if model in SHELF:
        refuse_mute(model)
        bring(model)
    located(text)
    from cutaway.lab.compare.precision import PrecisionComparison

    comparison = PrecisionComparison(
        model=model,
        text=text,
        weights=_names(weights, ";", "--weights"),
        caches=_names(caches, ",", "--cache"),
        passages=passages,
        length=length,
        threads=threads.wanted(context) or cores(),
        parameters=_parameters(model),
        attend=attend,
    )
    compare("precision", comparison, folder, out=out, as_json=as_json, timed=True)


def _names(text: str, between: str, source: str) -> tuple[str, ...]:
    if text.strip() == NONE:
        return ()
    found = tuple(word.strip() for word in text.split(between))
    if not all(found):
        raise BadInput(f"names stand with {between} between", source=source)
    return found


def _parameters(model: str) -> int:
    """How large the model is, by its headers. Raises BadInput for what writes no text."""
    from cutaway.infer.language import Language
    from cutaway.infer.load import load
    from cutaway.models.decoder import Decoder

    language = load(model, device="meta")
    if not isinstance(language, Language) or not isinstance(language.spec, Decoder):
        raise BadInput("only a decoder is compared so", source=model)
    if language.tokenizer is None:
        raise BadInput("came without a tokenizer: texts cannot be read", source=model)
    return language.spec.cost(1, 1).parameters
