"""`cutaway compare length`: a model read beyond the length that it was trained at, stretched in every way there is.

Read next: lab/compare/length.py, cli/compare/measuring.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutaway.base.errors import BadInput
from cutaway.cli import threads
from cutaway.cli.compare.measuring import AsJson, Out, Run, compare, tokens, words
from cutaway.cli.data import located
from cutaway.cli.get import bring
from cutaway.cli.options import Attend
from cutaway.weights.shelf import SHELF, refuse_mute

if TYPE_CHECKING:
    from cutaway.models.decoder import Decoder

MODELS = ("small", "small-alibi")
DEMO = "shakespeare"


def length(
    context: typer.Context,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="A model, a run, or one of two trained here, small and small-alibi (else both). Again for more.",
        ),
    ] = None,
    text: Annotated[str, typer.Option(metavar="FILE", help="What is read: its last tenth. Or a corpus's name.")] = DEMO,
    contexts: Annotated[
        str | None,
        typer.Option(
            "--context", metavar="TOKENS,...", help="How far is read; numbers are asked for at the end of each."
        ),
    ] = None,
    variants: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...", help="as-is, linear, dynamic-ntk, yarn, llama3, window, window+sinks; all, if not told."
        ),
    ] = None,
    depths: Annotated[
        str, typer.Option(metavar="SHARE,...", help="Where in the text a number is told.")
    ] = "0.1,0.5,0.9",
    window: Annotated[int | None, typer.Option(help="Tokens that the windows show (half of the trained).")] = None,
    sinks: Annotated[int | None, typer.Option(help="First tokens that stay seen beside it (4).")] = None,
    trained: Annotated[int | None, typer.Option(help="The trained length, where the model tells another.")] = None,
    passages: Annotated[int | None, typer.Option(help="How many passages of the text are read.")] = None,
    steps: Annotated[int, typer.Option(help="Of training the small models.")] = 300,
    seed: Annotated[int, typer.Option(help="Of training, and of the numbers told.")] = 0,
    attend: Attend = None,
    folder: Run = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Perplexity at each position, and whether a number told far back is found, beyond the trained length.

    Every way to stretch a rotation, a window, a window with sinks; the weights stay. A cell takes minutes where the
    model is large: fewer --variants, --depths and a smaller --context make it short. Stopped, the same command goes on.
    """
    read = tokens(contexts, "--context") if contexts else None
    told: dict[str, Any] = {"window": window, "sinks": sinks, "passages": passages}
    told["variants"] = words(variants, "--variants") if variants else None
    if read is not None:
        told |= {"context": max(read), "lengths": tuple(sorted(set(read)))}
    shares = tuple(_share(word) for word in words(depths, "--depths"))
    threads.apply(context)
    from cutaway.lab.compare.length import LengthComparison
    from cutaway.lab.compare.subject import subject, trained_length

    located(text)
    subjects = []
    for model in models or MODELS:
        spec = _spec(model, text, steps, seed)
        try:
            made = subject(model, spec, trained or trained_length(model, spec), **told)
        except BadInput as error:
            raise BadInput(error.message, source=model, field=error.field) from error
        subjects.append(made)
    comparison = LengthComparison(
        subjects=tuple(subjects), text=text, depths=shares, steps=steps, seed=seed, attend=attend
    )
    compare("length", comparison, folder, out=out, as_json=as_json)


def _spec(model: str, text: str, steps: int, seed: int) -> Decoder:
    """The value of a model, before anything long begins, so that errors come first."""
    from cutaway.lab.compare.length import opened
    from cutaway.lab.compare.short import SHORT, VOCAB

    if model in SHORT:
        return SHORT[model](VOCAB)
    if model in SHELF:
        refuse_mute(model)
        bring(model)
    return opened(model, text, steps, seed).spec  # type: ignore[return-value]


def _share(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise BadInput(f'"{word}" is no number from 0 to 1', source="--depths") from None
