"""From what a person typed for a model and a prompt to a `Language` and a text.

Read next: infer/language.py
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cutaway.base.errors import BadInput, NotFound
from cutaway.base.paths import expand
from cutaway.cli import threads
from cutaway.cli.console import messages, say
from cutaway.cli.get import bring
from cutaway.ops.blocks.scheme import precision_named
from cutaway.weights.shelf import SHELF, refuse_mute

if TYPE_CHECKING:
    from cutaway.infer.language import Language
    from cutaway.infer.seq2seq import Seq2Seq
    from cutaway.text.tokenizer import Tokenizer

ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="A short name, a folder, a .gguf file, or a hub id (owner/name).")
]
PromptText = Annotated[str, typer.Argument(metavar="PROMPT", help="The text; `-` reads it from standard input.")]
Device = Annotated[str | None, typer.Option(help="cuda, mps or cpu; the first of them that is here.")]
Dtype = Annotated[
    str | None, typer.Option(help="float32, bfloat16 or float16; a CPU takes float32, others the file's.")
]


def open_language(
    context: typer.Context,
    model: str,
    *,
    dtype: str | None = None,
    device: str | None = None,
    mute: bool = False,
    attend: str | None = None,
    weights: str | None = None,
    cache: str | None = None,
    activations: str | None = None,
) -> Language:
    """Open `model` with the threads asked for. A short name that is missing is fetched first, with a remark.

    `mute`: a model that writes no text (an encoder) will do. Raises BadInput for one where it will not. `attend`: a
    name in `ops.choice.ATTEND`; `activations`: one in `ops.forms.ACTIVATIONS`. `weights`, `cache`: as `infer.load.load`
    takes them.
    """
    told = {"dtype": dtype, "device": device, "attend": attend, "weights": weights, "cache": cache}
    language = open_model(context, model, mute=mute, activations=activations, **told)
    from cutaway.infer.seq2seq import Seq2Seq

    if isinstance(language, Seq2Seq):
        said = "is an encoder-decoder: it turns one text into another, which `cutaway generate` shows"
        raise BadInput(said, source=model)
    return language


def open_model(
    context: typer.Context,
    model: str,
    *,
    dtype: str | None = None,
    device: str | None = None,
    mute: bool = False,
    attend: str | None = None,
    weights: str | None = None,
    cache: str | None = None,
    activations: str | None = None,
) -> Language | Seq2Seq:
    """As `open_language`, an encoder-decoder too."""
    if weights is not None:
        precision_named(weights)  # before anything is fetched or read
    if attend is not None:
        threads.apply(context)
        from cutaway.ops.choice import choose_attend

        choose_attend(attend)  # likewise
    if model in SHELF and not Path(model).is_dir():  # a folder of that name is the nearer one
        if not mute:
            refuse_mute(model)
        bring(model)
    threads.apply(context)
    console = messages()
    with console.status(f"opening {model} ...") if console.is_terminal else nullcontext():
        from cutaway.infer.language import MUTE
        from cutaway.infer.load import load
        from cutaway.infer.seq2seq import Seq2Seq
        from cutaway.ops.forms import attending

        forms = attending(attend, activations)
        language = load(model, dtype=dtype, device=device, forms=forms, weights=weights, cache=cache)
    if not (mute or isinstance(language, Seq2Seq) or language.speaks):
        raise BadInput(MUTE, source=model)
    return language


def open_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of a model, a run or a prepared corpus, or of a tokenizer.json; a short name is fetched if need be.

    Raises NotFound where there is none, BadInput, naming the file, for a broken one.
    """
    from cutaway.text.tokenizer import Tokenizer

    path = expand(name)
    if path.name == "tokenizer.json" and path.is_file():
        return Tokenizer.from_folder(path.parent)
    if (path / "tokenizer" / "tokenizer.json").is_file():
        return Tokenizer.from_folder(path / "tokenizer")
    if name in SHELF and not path.is_dir():
        path = bring(name)
    elif not path.exists():
        from cutaway.infer.load import locate

        path = locate(name)
    if path.is_dir():
        return Tokenizer.from_folder(path)
    from cutaway.weights.gguf.reader import read_gguf

    metadata = read_gguf(path).metadata
    if "tokenizer.ggml.model" not in metadata:
        raise NotFound(f"{path}: no tokenizer in this file")
    return Tokenizer.from_gguf(metadata, source=path)


def read_text(given: str) -> str:
    """`given`, or for `-` all of standard input, less the one line end that closes it (as a shell's `$(...)`)."""
    if given != "-":
        return given
    if sys.stdin is None:
        raise BadInput("there is no standard input to read the text from", source="-")
    if sys.stdin.isatty():
        say("reading the text from the keyboard; Ctrl-D ends it (Ctrl-Z and Enter on Windows)")
    try:
        text = sys.stdin.read()
    except UnicodeDecodeError as error:
        raise BadInput(f"not UTF-8 text (byte {error.start})", source="standard input") from error
    return text.removesuffix("\n").removesuffix("\r")
