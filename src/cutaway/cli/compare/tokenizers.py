"""`cutaway compare tokenizers`: kinds of tokenizers beside each other on the same text.

Read next: lab/tokenizer_comparison.py
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cutaway.cli.console import Column, say, show_json, show_table

if TYPE_CHECKING:
    from cutaway.lab.tokenizer_comparison import Measured, Sample

DEMO = ("shakespeare", "three-kingdoms")


def tokenizers(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CORPUS...]", help=f"Files, folders, corpora by name (else {', '.join(DEMO)})."),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="NAME", help="Also this tokenizer: a model, a folder, a file. Again for more."),
    ] = None,
    vocab: Annotated[int, typer.Option(min=1, help="Tokens of those that are trained here.")] = 8192,
    field: Annotated[str, typer.Option(help="The field of JSON lines, or the column, that holds the text.")] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """How long English and Chinese become in each kind of tokenizer, and what of them is lost.

    Each kind is trained on nine tenths of the text, at one vocabulary size; all are measured on the last tenth. Tokens
    per unit count words of English and characters of Chinese.
    """
    from cutaway.cli.data import located
    from cutaway.cli.opening import open_tokenizer
    from cutaway.data.readers.sources import read
    from cutaway.lab.tokenizer_comparison import KINDS, measured, sampled, trained

    existing = [(name, open_tokenizer(name)) for name in names or ()]  # before the long work, so that errors come first
    places = [located(source) for source in sources or DEMO]
    sample = sampled(entry.text for entry in read(places, field=field))
    _say_what_is_missing(sample)
    rows: list[Measured] = []
    for kind in KINDS:
        say(f"training {kind} ...")
        rows += measured(kind, trained(kind, sample, vocab), sample)
    for name, tokenizer in existing:
        rows += measured(name, tokenizer, sample)
    if as_json:
        show_json([asdict(row) for row in rows])
        return
    _show(rows, sample)


def _say_what_is_missing(sample: Sample) -> None:
    from cutaway.lab.tokenizer_comparison import CHINESE, ENGLISH

    for language in (ENGLISH, CHINESE):
        if language not in sample.languages():
            say(f"there is no {language} in this text: give a file of it as well to see that, too")


def _show(rows: list[Measured], sample: Sample) -> None:
    columns = (
        Column(title="text"),
        Column(title="tokenizer"),
        *(Column(title=title, align="right") for title in ("vocabulary", "bytes/token", "tokens/unit")),
        *(Column(title=title, align="right") for title in ("unknown", "in bytes")),
    )
    cells = []
    for language in sample.languages():
        here = sorted((row for row in rows if row.language == language), key=lambda row: -row.bytes_per_token)
        for place, row in enumerate(here):
            shares = (f"{row.unknown:.2%}", f"{row.in_bytes:.2%}")
            figures = (f"{row.vocab:,}", f"{row.bytes_per_token:.2f}", f"{row.fertility:.2f}")
            cells.append(("" if place else language, row.name, *figures, *shares))
    show_table(columns, cells)
    say("unit: a word of English, a character of Chinese; in bytes: tokens that are less than a character")
