"""What a model looks like on a terminal: the tree of its parts, and what happens inside on a prompt.

Where the terminal is too narrow, columns give way one by one; in a pipe all of them stay, as plain aligned text.
Read next: lab/branches.py, lab/lens.py
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells
from rich.text import Text

from cutaway.cli.console import Column, megabytes, millions, results, safe, show_table
from cutaway.lab.anatomy import Part
from cutaway.lab.branches import Branch, trunk
from cutaway.lab.lens import Guess, Layer, Lens

LEVELS = "▁▂▃▄▅▆▇█"
SHARE = 8  # columns of the longest bar


@dataclass(frozen=True, kw_only=True)
class Cells:
    """One column of a drawing. `gives_way`: columns with higher numbers leave first where there is no room; 0 stays."""

    title: str
    cells: list[Text]
    align: str = "left"
    gives_way: int = 0

    @property
    def width(self) -> int:
        return max(cell_len(self.title), *(cell.cell_len for cell in self.cells), 0)


def fitted(columns: Sequence[Cells], width: int | None) -> list[Cells]:
    """Those columns that fit `width` (None: all of them), two spaces apart."""
    kept = list(columns)
    while width is not None and sum(column.width + 2 for column in kept) - 2 > width:
        last = max(kept, key=lambda column: column.gives_way)
        if not last.gives_way:
            break
        kept.remove(last)
    return kept


def draw(columns: Sequence[Cells]) -> list[Cells]:
    """Print columns side by side; returns those that there was no room for."""
    console = results()
    kept = fitted(columns, console.width if console.is_terminal else None)
    titles = [Column(title=column.title, align="right" if column.align == "right" else "left") for column in kept]
    rows = list(zip(*(column.cells for column in kept), strict=True))
    if console.is_terminal:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for title in titles:
            table.add_column(title.title, justify=title.align, no_wrap=True, overflow="ellipsis")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    else:
        show_table(titles, [[cell.plain for cell in row] for row in rows])
    return [column for column in columns if column not in kept]


def draw_tree(root: Part, name: str, *, fold: bool = True) -> None:
    """The tree of a model or of one part, one line a branch; of similar blocks, only what differs."""
    rows = list(_rows(trunk(root, name), fold))
    branches = [branch for _, branch in rows]
    columns = [
        Cells(title="part", cells=[_label(guide, branch) for guide, branch in rows]),
        Cells(title="shape", cells=[Text(shape(branch.part)) for branch in branches], gives_way=1),
        Cells(title="params", cells=[Text(counted(branch.part.parameters)) for branch in branches], align="right"),
        Cells(title="share", cells=[Text(f"{100 * branch.share:.1f}%") for branch in branches], align="right"),
        Cells(title="", cells=[Text(bar(branch.share), style="cyan") for branch in branches], gives_way=2),
        Cells(title="FLOPs", cells=[Text(counted(branch.part.flops)) for branch in branches], align="right"),
        Cells(title="cache", cells=[Text(cached(branch.part.cache_bytes)) for branch in branches], align="right"),
        Cells(title="format", cells=[Text(branch.part.format) for branch in branches]),
        Cells(title="written in", cells=[Text(place(branch.part), style="dim") for branch in branches], gives_way=3),
    ]
    left_out = draw(columns)
    if any(column.title == "written in" for column in left_out):
        _draw_sources(branch.part for branch in branches)


def _draw_sources(parts: Iterable[Part]) -> None:
    """Where each kind of part is written, for terminals without room for it in the tree."""
    kinds = {part.kind: place(part) for part in parts if part.file}
    console = results()
    console.print()
    for kind, where in kinds.items():
        console.print(Text(f"{kind:<24} {where}", style="dim"), soft_wrap=True)


def _rows(branch: Branch, fold: bool, before: str = "", guide: str = "") -> Iterable[tuple[str, Branch]]:
    yield guide, branch
    below = branch.branches(fold=fold, brief=True)
    for index, child in enumerate(below):
        last = index == len(below) - 1
        yield from _rows(child, fold, before + ("   " if last else "│  "), before + ("└─ " if last else "├─ "))


def _label(guide: str, branch: Branch) -> Text:
    label = Text(guide, style="dim") + Text(safe(branch.label), style="bold" if not guide else "")
    if branch.note:
        label.append(f"  {branch.note}", style="yellow")
    return label


def shape(part: Part) -> str:
    """Rows × columns of the largest tensor a part itself holds."""
    return " × ".join(map(str, part.shape)) if part.shape else ""


def counted(number: int) -> str:
    return millions(number) if number else "-"


def cached(number: float) -> str:
    return megabytes(round(number)) if number else "-"


def place(part: Part) -> str:
    return f"{part.file}:{part.line}" if part.file else ""


def bar(share: float, width: int = SHARE) -> str:
    """A share of 0 to 1 as a bar of eighths of a column; anything above nothing is seen."""
    eighths = round(share * width * 8)
    if share > 0 and eighths == 0:
        eighths = 1
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")


def draw_lens(lens: Lens) -> None:
    """What a prompt does inside, a line a block, at the last position."""
    place = len(lens.places) - 1
    longest = max(layer.norms[place] for layer in lens.layers)
    settled = lens.first_right(place)
    columns = [
        Cells(title="block", cells=[Text(str(layer.block)) for layer in lens.layers], align="right"),
        Cells(title="residual", cells=[Text(f"{layer.norms[place]:.1f}") for layer in lens.layers], align="right"),
        Cells(
            title="",
            cells=[Text(bar(layer.norms[place] / longest if longest else 0.0), style="cyan") for layer in lens.layers],
            gives_way=2,
        ),
        Cells(title="attention", cells=[_heads(lens, layer, place) for layer in lens.layers], gives_way=1),
        Cells(title="guess", cells=[_guess(layer.guesses[place][0], layer, settled) for layer in lens.layers]),
        Cells(title="then", cells=[_others(layer.guesses[place][1:]) for layer in lens.layers], gives_way=3),
    ]
    draw(columns)


def _heads(lens: Lens, layer: Layer, place: int) -> Text:
    """One cell a head: the lower, the fewer tokens it looks at."""
    if not layer.entropies:
        return Text("")
    levels = [min(len(LEVELS) - 1, int(share * len(LEVELS))) for share in lens.share(layer, place)]
    return Text("".join(LEVELS[level] for level in levels), style="magenta")


def _guess(guess: Guess, layer: Layer, settled: int | None) -> Text:
    certain = settled is not None and layer.block >= settled
    return Text(
        f"{clipped(quoted(guess.piece), 18)} {100 * guess.probability:.0f}%", style="bold green" if certain else ""
    )


def _others(guesses: Sequence[Guess]) -> Text:
    shown = (f"{clipped(quoted(guess.piece), 14)} {100 * guess.probability:.0f}%" for guess in guesses)
    return Text("  ".join(shown), style="dim")


def quoted(piece: str) -> str:
    return f'"{safe(piece)}"'


def clipped(text: str, width: int) -> str:
    """Text cut to a display width; a Chinese character takes two columns."""
    return text if cell_len(text) <= width else chop_cells(text, width - 1)[0] + "…"
