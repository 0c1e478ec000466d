"""`cutaway data prepare` and `cutaway data look`: from raw text to something to train on, and what is in it.

Read next: data/preparation.py, data/survey.py
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutaway.base.errors import BadInput
from cutaway.cli.console import Column, megabytes, results, safe, say, show_json, show_table

if TYPE_CHECKING:
    import numpy as np

    from cutaway.data.corpus import Corpus
    from cutaway.data.preparation import Report

HELP = {"help_option_names": ["-h", "--help"]}
LENGTH = 1024  # tokens in a row, where nobody says
WIDTH = 100  # characters of a sample

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    context_settings=HELP,
    help="Prepare a corpus to train on, and look at one.",
)


@app.callback(invoke_without_command=True)
def _start(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        results().print(context.get_help(), markup=False, soft_wrap=True)


@app.command(context_settings=HELP, short_help="Turn raw text into a folder to train on.")
def prepare(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Files, folders, a corpus by name (shakespeare), hub:OWNER/NAME."),
    ],
    tokenizer: Annotated[
        str, typer.Option(metavar="NAME", help="Whose tokenizer: a model, a run, a folder, a tokenizer.json.")
    ],
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the prepared corpus is to stand.")],
    field: Annotated[str, typer.Option(help="The field of JSON lines, or the column, that holds the text.")] = "text",
    split_at: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Plain text holds many documents with this between: blank, line, or a text."),
    ] = None,
    clean: Annotated[bool, typer.Option(help="Drop control characters and empty texts, compose Unicode.")] = True,
    form: Annotated[str, typer.Option(help="The Unicode form of cleaned text: NFC or NFKC.")] = "NFC",
    whitespace: Annotated[bool, typer.Option(help="Make runs of blanks one, and blank lines at most one.")] = False,
    shortest: Annotated[int, typer.Option(min=0, help="Characters that a document must have.")] = 1,
    longest: Annotated[int | None, typer.Option(min=1, help="Characters that it may have.")] = None,
    script: Annotated[str | None, typer.Option(help="Keep what is written in it: Latin, Han, Cyrillic ...")] = None,
    share: Annotated[float, typer.Option(help="The share of letters that must be of that script.")] = 0.5,
    dedup: Annotated[bool, typer.Option(help="Drop documents that are there already, letter for letter.")] = True,
    near: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Drop those that resemble an earlier one by so much (0.8).")
    ] = None,
    validation: Annotated[float, typer.Option(metavar="SHARE", help="Documents kept apart, by their hash.")] = 0.05,
    tail: Annotated[bool, typer.Option("--tail", help="Keep apart the end of each document instead.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one for each core.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also where another corpus stands.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Read, clean, drop copies, split, tokenise: raw text becomes a folder to train on.

    Stopped in the middle, the same command goes on where it was.
    """
    from cutaway.cli.opening import open_tokenizer
    from cutaway.data.cleaning import Cleaning
    from cutaway.data.preparation import Preparation
    from cutaway.data.preparation import prepare as run

    cleaning = None
    if clean:
        limits = {"shortest": shortest, "longest": longest, "script": script, "share": share}
        cleaning = Cleaning(form=form, whitespace=whitespace, **limits)  # type: ignore[arg-type]
    preparation = Preparation(
        field=field,
        separator=_separator(split_at),
        cleaning=cleaning,
        exact=dedup,
        near=near,
        validation=validation,
        tail=tail,
    )
    report = run(
        [located(source) for source in sources],
        open_tokenizer(tokenizer),
        to,
        preparation,
        workers=workers,
        replace=replace,
    )
    if as_json:
        show_json(_plain(report))
        return
    _show(report)


@app.command(context_settings=HELP, short_help="Show what is in a corpus, raw or prepared.")
def look(
    corpus: Annotated[
        str, typer.Argument(metavar="FOLDER|FILE", help="A prepared corpus, or raw text as for `prepare`.")
    ],
    length: Annotated[int, typer.Option(min=1, help="Tokens in a row, for the waste of packing.")] = LENGTH,
    samples: Annotated[int, typer.Option(min=0, help="Documents to show.")] = 3,
    field: Annotated[str, typer.Option(help="The field of JSON lines, or the column, that holds the text.")] = "text",
    split_at: Annotated[str | None, typer.Option(metavar="TEXT", help="As for `prepare`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """What is in a corpus: documents, tokens, their lengths, samples, and what packing wastes."""
    from cutaway.base.paths import expand
    from cutaway.data.corpus import Corpus, is_corpus

    if is_corpus(corpus):
        _look_prepared(Corpus(corpus), length, samples, as_json)
        return
    if (expand(corpus) / "meta.json").is_file() and is_corpus(expand(corpus).parent):
        raise BadInput("is a part of a prepared corpus; name the folder above it", source=corpus)
    _look_raw(located(corpus), field, _separator(split_at), samples, as_json)


def located(source: str) -> str:
    """A source as it is; a corpus that goes by a short name, fetched, with a remark, if it is not there yet."""
    from cutaway.cli.get import bring
    from cutaway.weights import corpora

    return corpora.located(source, bring)


def _separator(given: str | None) -> str | None:
    if given is None:
        return None
    if not given:
        raise BadInput("an empty text is everywhere", source="--split-at")
    return {"blank": "\n\n", "line": "\n"}.get(given, given.replace("\\n", "\n").replace("\\t", "\t"))


def _show(report: Report) -> None:
    tally = report.tally
    for line in tally.lines():
        say(f"left out: {line}")
    if tally.changed:
        say(f"cleaned: {tally.changed:,} documents")
    columns = [Column(title="part"), *(_number(title) for title in ("documents", "tokens", "bytes/token", "text"))]
    rows = [
        (
            name,
            f"{part['documents']:,}",
            f"{part['tokens']:,}",
            f"{part['bytes'] / max(1, part['tokens']):.2f}",
            megabytes(part["bytes"]),
        )
        for name, part in report.parts.items()
    ]
    show_table(columns, rows)
    rate = report.tokens / max(report.seconds, 1e-9)
    kept = f", {report.kept} of them kept from before" if report.kept else ""
    results().print(
        f"{report.shards} shards{kept}; {rate:,.0f} tokens/s ({megabytes(round(report.bytes / report.seconds))}/s) "
        f"in {report.seconds:.1f} s with {report.workers} {'worker' if report.workers == 1 else 'workers'}",
        soft_wrap=True,
    )
    _show_waste(_all_lengths(report.folder), LENGTH)


def _plain(report: Report) -> dict[str, Any]:
    return {
        "folder": str(report.folder),
        "read": report.tally.read,
        "kept": report.tally.kept,
        "dropped": report.tally.dropped,
        "parts": {name: {key: part[key] for key in ("documents", "tokens", "bytes")} for name, part in _parts(report)},
        "shards": report.shards,
        "shards_kept": report.kept,
        "workers": report.workers,
        "seconds": round(report.seconds, 3),
        "tokens_per_second": round(report.tokens / max(report.seconds, 1e-9)),
    }


def _parts(report: Report) -> list[tuple[str, dict[str, Any]]]:
    return list(report.parts.items())


def _all_lengths(folder: Path) -> np.ndarray:
    from cutaway.data.corpus import Corpus

    return Corpus(folder).train.lengths


def _look_prepared(corpus: Corpus, length: int, samples: int, as_json: bool) -> None:
    from cutaway.data.survey import packing_waste

    parts = {"train": corpus.train, **({"validation": corpus.validation} if corpus.validation else {})}
    if as_json:
        waste = packing_waste(corpus.train.lengths, length)[1]
        counts = {
            name: {key: part.meta[key] for key in ("documents", "tokens", "bytes")} for name, part in parts.items()
        }
        show_json({"folder": str(corpus.folder), "parts": counts, "length": length, "packing_waste": waste})
        return
    columns = [Column(title="part"), *(_number(title) for title in ("documents", "tokens", "bytes/token", "shards"))]
    rows = [
        (
            name,
            f"{part.meta['documents']:,}",
            f"{part.tokens:,}",
            f"{part.meta['bytes'] / max(1, part.tokens):.2f}",
            str(len(part.meta["shards"])),
        )
        for name, part in parts.items()
    ]
    show_table(columns, rows)
    coding = corpus.train.coding
    end = "nothing" if coding.end is None else corpus.tokenizer.token(coding.end)
    results().print(
        f"vocabulary {coding.vocab:,} ({coding.dtype}), tokenizer {coding.tokenizer}; behind each document: {end}",
        soft_wrap=True,
        markup=False,
    )
    _show_lengths(corpus.train.lengths, "tokens")
    _show_waste(corpus.train.lengths, length)
    count = len(corpus.train.lengths)
    for place in range(min(samples, count)):
        number = place * count // samples  # spread over the whole
        ids = corpus.train.read(number, 0, min(int(corpus.train.lengths[number]), WIDTH))
        _show_sample(f"document {number}", corpus.tokenizer.decode(ids.tolist(), special=True))


def _look_raw(source: str, field: str, separator: str | None, samples: int, as_json: bool) -> None:
    import numpy as np

    from cutaway.base.progress import track
    from cutaway.data.readers.sources import read
    from cutaway.data.survey import Survey

    survey = Survey.of(track(read([source], field=field, separator=separator), "reading"))
    characters = sum(survey.lengths)
    letters = sum(survey.scripts.values()) or 1.0
    scripts = {script: weight / letters for script, weight in survey.scripts.items()}
    if as_json:
        counts = {"documents": len(survey.lengths), "characters": characters, "bytes": survey.bytes}
        show_json({"source": source, **counts, "scripts": scripts})
        return
    results().print(
        f"{len(survey.lengths):,} documents, {characters:,} characters, {megabytes(survey.bytes)} of text",
        soft_wrap=True,
    )
    shown = sorted(scripts.items(), key=lambda item: -item[1])[:5]
    results().print("letters: " + (", ".join(f"{share:.1%} {script}" for script, share in shown) or "none"))
    _show_lengths(np.array(survey.lengths, dtype=np.int64), "characters")
    for entry in survey.first[:samples]:
        _show_sample(f"{entry.source}:{entry.place}", entry.text)


def _show_lengths(lengths: np.ndarray, unit: str) -> None:
    from cutaway.cli.drawing import bar
    from cutaway.data.survey import histogram

    bins = histogram(lengths)
    most = max((one.documents for one in bins), default=1) or 1
    columns = [_number(f"{unit} each"), _number("documents"), _number(f"share of {unit}"), Column(title="")]
    total = max(1, int(lengths.sum()))
    rows = [
        (
            str(one.low) if one.low == one.high else f"{one.low:,}-{one.high:,}",
            f"{one.documents:,}",
            f"{100 * one.units / total:.1f}%",
            bar(one.documents / most, 24),
        )
        for one in bins
    ]
    show_table(columns, rows)


def _show_waste(lengths: np.ndarray, length: int) -> None:
    from cutaway.data.survey import packing_waste, padding_waste

    rows, waste = packing_waste(lengths, length)
    results().print(
        f"rows of {length} tokens: {rows:,}, {waste:.2%} empty with whole documents packed by best fit, "
        f"{padding_waste(lengths, length):.2%} with padding, none in a stream",
        soft_wrap=True,
    )


def _show_sample(title: str, text: str) -> None:
    from cutaway.cli.drawing import clipped

    line = " ".join(safe(text).split())
    results().print(f"{title}: {clipped(line, WIDTH)}", markup=False, soft_wrap=True)


def _number(title: str) -> Column:
    return Column(title=title, align="right")
