"""`cutaway runs FOLDER...`: training runs listed, compared, and plotted on one page.

Read next: lab/runs_page.py, train/run.py
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cutaway.base.errors import BadInput, NotFound
from cutaway.base.paths import atomic, expand
from cutaway.cli import console
from cutaway.cli.panel import duration, sparkline
from cutaway.cli.train import RUNS

if TYPE_CHECKING:
    from cutaway.lab.runs_page import Told
    from cutaway.train.run import Run

LONGEST = 48  # characters of a field's value in the comparison
SHOWN = 1500  # characters of a sample


def runs(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="FOLDER", help="Runs, or folders with runs in them (runs/ if none).")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", dir_okay=False, help="Draw their curves on one page.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List training runs and what differs between them.

    --html writes one page with their losses, recipes and samples, which needs nothing but itself.
    """
    from cutaway.lab.runs_page import differing, runs_page
    from cutaway.train.run import Run

    told = [_told(Run.open(folder)) for given in (folders or [RUNS]) for folder in found(expand(given))]
    if html is not None:
        with atomic(html) as partial:
            partial.write_text(runs_page(told), encoding="utf-8")
        console.say(f"the page: {html.resolve()}")
    if as_json:
        console.show_json([_plain(run) for run in told])
        return
    worded = any(run.last("word_share") is not None for run in told)
    columns = [console.Column(title="run", wrap=True)]
    columns += [console.Column(title=title, align="right") for title in _titles(worded)]
    columns.append(console.Column(title="loss so far"))
    console.show_table(columns, [_row(run, worded) for run in told])
    different = differing(told) if len(told) > 1 else []
    if different:
        print()
        titles = [console.Column(title="field"), *(console.Column(title=run.name, wrap=True) for run in told)]
        console.show_table(titles, [[name, *(_said(run.fields.get(name)) for run in told)] for name in different])


def found(folder: Path) -> list[Path]:
    """The run in a folder, or the runs in the folders inside it. Raises NotFound where there is neither."""
    from cutaway.train.run import CARD

    if (folder / CARD).is_file():
        return [folder]
    inside = sorted(path.parent for path in folder.glob(f"*/{CARD}")) if folder.is_dir() else []
    if not inside:
        raise NotFound(f"{folder}: there is no training run in it; `cutaway train nano` makes one")
    return inside


def _told(run: Run) -> Told:
    from cutaway.lab.runs_page import Told, flat
    from cutaway.train.run import SAMPLES

    fields = {name: value for name, value in flat(run.card["recipe"]).items() if not name.endswith("type")}
    samples = sorted((run.folder / SAMPLES).glob("step-*.txt"))
    before = run.folder / SAMPLES / "before.txt"
    return Told(
        name=run.folder.name,
        fields=fields,
        lines=run.metrics.read(),
        sample=_text(samples[-1]) if samples else "",
        before=_text(before) if before.is_file() else "",
    )


def _text(path: Path) -> str:
    """The beginning of a sample, without control characters. Raises BadInput for one that is no text."""
    try:
        return console.safe(path.read_text(encoding="utf-8")).strip()[:SHOWN]
    except UnicodeDecodeError as error:
        raise BadInput(f"is no UTF-8 text: byte {error.start}", source=path) from error


def _said(value: object) -> str:
    """A field's value on one short line."""
    text = "–" if value is None else " ".join(str(value).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _titles(worded: bool) -> list[str]:
    return ["step", "loss", "best val", *(["words"] if worded else []), "tokens/s", "took"]


def _row(run: Told, worded: bool) -> list[str]:
    """`worded`: whether there is a column for the share of written words that the corpus has."""
    loss, best, rate = run.last("loss"), run.best("val_loss"), run.last("tokens_per_second")
    share = run.last("word_share")
    return [
        run.name,
        f"{run.last('step') or 0:,.0f}",
        "–" if loss is None else f"{loss:.4f}",
        "–" if best is None else f"{best:.4f}",
        *([] if not worded else ["–" if share is None else f"{100 * share:.0f}%"]),
        "–" if rate is None else f"{rate:,.0f}",
        duration(run.last("seconds") or 0.0),
        sparkline([y for _, y in run.curve("step", "loss")], 24),
    ]


def _plain(run: Told) -> dict[str, object]:
    return {
        "run": run.name,
        "step": run.last("step"),
        "loss": run.last("loss"),
        "best_val_loss": run.best("val_loss"),
        "word_share": run.last("word_share"),
        "tokens_per_second": run.last("tokens_per_second"),
        "seconds": run.last("seconds"),
        "recipe": dict(run.fields),
    }
