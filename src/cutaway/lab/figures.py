"""Pictures for a page: the tree of parts, the grid of early guesses, heads and residual norms. HTML and inline SVG.

Read next: lab/page.py, lab/lens.py
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from rich.cells import cell_len, chop_cells

from cutaway.lab.anatomy import Part
from cutaway.lab.branches import Branch, trunk
from cutaway.lab.lens import Lens
from cutaway.lab.page import Section

CELL, ROW, LEFT, LETTER = 82, 19, 46, 6.7  # pixels: a grid's cell, its height, room for row names, one column of text


def tree_section(root: Part, name: str, length: int) -> Section:
    """The parts as a tree that folds."""
    head = "".join(f"<span>{title}</span>" for title in _HEAD)
    body = f'<div class="panel tree mono"><div class="row head">{head}</div>{_branch(trunk(root, name), 0)}</div>'
    note = (
        f"A click opens a part. Numbers are of one part, shares of all that are alike. FLOPs are for one token at a "
        f"context of {length}, cache bytes per token. The last column names the file that implements the part."
    )
    return Section(title="What it is made of", body=body, note=note)


_HEAD = ("part", "shape", "parameters", "share", "FLOPs", "cache", "format", "written in")


def _branch(branch: Branch, depth: int) -> str:
    below = branch.branches()
    row = _row(branch, depth, leaf=not below)
    if not below:
        return row
    inner = "".join(_branch(child, depth + 1) for child in below)
    opened = ' open="open"' if depth < 2 and branch.beside is None else ""
    return f"<details{opened}><summary>{row}</summary>{inner}</details>"


def _row(branch: Branch, depth: int, *, leaf: bool) -> str:
    part = branch.part
    note = f' <span class="alike">{escape(branch.note)}</span>' if branch.note else ""
    width = max(1, round(60 * branch.share))
    cells = (
        f'<span class="name" style="padding-left:{1.3 * depth:.1f}rem">{escape(branch.label)}{note}</span>',
        f"<span>{'×'.join(map(str, part.shape or ()))}</span>",
        f"<span>{_count(part.parameters)}</span>",
        f'<span><i class="bar" style="width:{width}px"></i>{100 * branch.share:.1f}%</span>',
        f"<span>{_count(part.flops)}</span>",
        f"<span>{_count(round(part.cache_bytes))}</span>",
        f"<span>{escape(part.format)}</span>",
        f'<span class="dim">{escape(f"{part.file}:{part.line}" if part.file else "")}</span>',
    )
    return f'<span class="row{" leaf" if leaf else ""}">{"".join(cells)}</span>'


def _count(number: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.1f}{unit}" if number < 10 * size else f"{number / size:.0f}{unit}"
    return str(number) if number else "–"


def lens_sections(lens: Lens, intro: str = "") -> list[Section]:
    """The guesses behind every block at the places looked at, and norms and heads at the last of them."""
    guesses = Section(
        title="What it would say after each block",
        note=(
            f"{intro}Each column is a token as it was read, each row a block. A cell holds the likeliest next token if "
            f"the model stopped there (the logit lens); the fuller the colour, the surer it is."
        ).strip(),
        body=f'<div class="panel">{guess_grid(lens)}</div>',
    )
    inside = Section(
        title="Inside, at the last token",
        note=(
            "Left: the norm of the residual behind each block. Right: each head's attention entropy as a share of the "
            "largest possible; dark looks at all tokens evenly, empty at one."
        ),
        body=f'<div class="panel">{inner_picture(lens)}</div>',
    )
    return [guesses, inside]


def guess_grid(lens: Lens) -> str:
    """Rows: blocks. Columns: the places. Cells: the best guess, coloured by its probability."""
    width, height = LEFT + CELL * len(lens.places) + 4, ROW * (len(lens.layers) + 2)
    parts = [_text(0, ROW - 6, "read:", "faint")]
    for column, place in enumerate(lens.places):
        x = LEFT + CELL * column
        parts.append(_text(x + 4, ROW - 6, fit(lens.pieces[place], CELL - 8), "faint", lens.pieces[place]))
    for row, layer in enumerate(lens.layers):
        y = ROW * (row + 1)
        parts.append(_text(0, y + ROW - 6, f"{layer.block}", "faint"))
        for column, guesses in enumerate(layer.guesses):
            best, x = guesses[0], LEFT + CELL * column
            full = "; ".join(f"{guess.piece} {100 * guess.probability:.1f}%" for guess in guesses)
            cell = _box("cell", x + 1, y + 1, CELL - 2, ROW - 2, opacity=0.05 + 0.85 * best.probability)
            parts.append(_told(full, cell + _text(x + 4, y + ROW - 6, fit(best.piece, CELL - 8))))
    return _svg(width, height, parts, "the likeliest next token behind each block")


def inner_picture(lens: Lens) -> str:
    """Residual norms as bars, attention entropies as cells, a row a block."""
    place = len(lens.places) - 1
    longest = max(layer.norms[place] for layer in lens.layers) or 1.0
    bars, side = 260, 16
    heads = max((len(layer.entropies[place]) for layer in lens.layers if layer.entropies), default=0)
    start = LEFT + bars + 90
    parts = [_text(LEFT, ROW - 6, "residual norm", "faint"), _text(start, ROW - 6, "heads" if heads else "", "faint")]
    for row, layer in enumerate(lens.layers):
        y, norm = ROW * (row + 1), layer.norms[place]
        parts.append(_text(0, y + ROW - 6, f"{layer.block}", "faint"))
        length = bars * norm / longest
        parts.append(_box("cool", LEFT, y + 4, length, ROW - 8))
        parts.append(_text(LEFT + length + 6, y + ROW - 6, f"{norm:.1f}", "faint"))
        for head, share in enumerate(lens.share(layer, place) if layer.entropies else ()):
            x = start + (side + 2) * head
            cell = _box("cool", x, y + 1, side, side, opacity=share) + _box("frame", x, y + 1, side, side)
            parts.append(_told(f"block {layer.block}, head {head}: {layer.entropies[place][head]:.2f} nats", cell))
    return _svg(start + (side + 2) * heads + 4, ROW * (len(lens.layers) + 1) + 4, parts, "norms and entropies by block")


def measure_bars(rows: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars to compare a few numbers: name, number, and what to write beside it."""
    most, left, bars = max((number for _, number, _ in rows), default=1.0) or 1.0, 230, 420
    parts = []
    for row, (name, number, beside) in enumerate(rows):
        y = (ROW + 6) * row
        parts.append(_text(0, y + ROW - 5, name))
        parts.append(_box("cool", left, y + 3, bars * number / most, ROW - 6))
        parts.append(_text(left + bars * number / most + 8, y + ROW - 5, beside, "faint"))
    return _svg(left + bars + 260, (ROW + 6) * len(rows), parts, "bars")


def fit(piece: str, pixels: float) -> str:
    """A piece cut to a width; a Chinese character takes two columns. A space at its start is shown as one: ␣."""
    columns = int(pixels / LETTER)
    shown = piece.replace(" ", "␣") if not piece.strip() else piece
    return shown if cell_len(shown) <= columns else chop_cells(shown, columns - 1)[0] + "…"


def _text(x: float, y: float, text: str, kind: str = "", tip: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    title = f"<title>{escape(tip)}</title>" if tip else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" xml:space="preserve"{attribute}>{title}{escape(text)}</text>'


def _box(kind: str, x: float, y: float, width: float, height: float, opacity: float | None = None) -> str:
    fill = "" if opacity is None else f' fill-opacity="{opacity:.2f}"'
    size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2"'
    return f'<rect class="{kind}" {size}{fill}/>'


def _told(tip: str, inner: str) -> str:
    """What a pointer that rests on `inner` is told."""
    return f"<g><title>{escape(tip)}</title>{inner}</g>"


def _svg(width: float, height: float, parts: Sequence[str], label: str) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg role="img" aria-label="{escape(label)}" {size}>{"".join(parts)}</svg>'
