"""`cutaway open MODEL`: the casing cut away. Every part, its size, arithmetic, cache, format, and where it is written.

Read next: lab/anatomy.py, lab/lens.py, cli/drawing.py
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutaway.base.errors import BadInput
from cutaway.cli.console import Column, megabytes, results, safe, say, show_json, show_table
from cutaway.cli.opening import Device, Dtype, ModelName, open_language, read_text
from cutaway.cli.options import Attend, Weights

if TYPE_CHECKING:
    from cutaway.infer.language import Language
    from cutaway.lab.anatomy import Part
    from cutaway.lab.lens import Lens

PLACES = 12  # tokens across a page's picture of early guesses
SCHEMA = 1  # of the JSON; grows when a field changes its meaning or goes


def open_model(
    context: typer.Context,
    model: ModelName,
    part: Annotated[str | None, typer.Option("--part", metavar="PATH", help="Zoom in: blocks.3.mixer")] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="TEXT", help="What this text does inside; `-` reads stdin.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="The prompt is a message: apply the chat template.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Look for NaN and infinity in all weights.")] = False,
    unfold: Annotated[bool, typer.Option("--all", help="Show equal blocks one by one.")] = False,
    length: Annotated[
        int | None, typer.Option("--length", min=1, help="Tokens of context for FLOPs; the model's own, or 1024.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, in plain units.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", dir_okay=False, help="Write one self-contained page.")
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    attend: Attend = None,
    weights: Weights = None,
) -> None:
    """Show every part of a model.

    FLOPs and cache are per token, FLOPs for one behind a context of --length.
    """
    text = None if prompt is None else read_text(prompt)
    if chat and text is None:
        raise BadInput("goes with --prompt", source="--chat")
    language = open_language(context, model, dtype=dtype, device=device, attend=attend, weights=weights, mute=True)
    if check:
        _check(language, model, as_json)
        return
    from cutaway.lab.anatomy import anatomy

    used = length or min(1024, language.spec.length)
    root = anatomy(language.module, length=used, dtype=language.dtype)
    if part is not None:
        _zoom(language, root.find(part), as_json)
        return
    lens = None if text is None else _look(language, text, chat, places=1 if html is None else PLACES)
    if html is not None:
        _write_page(html, model, root, lens, used, language)
    if as_json:
        show_json(in_json(model, language, root, used, lens))
    elif html is None:
        _show(model, language, root, used, lens, fold=not unfold)


def _look(language: Language, text: str, chat: bool, places: int) -> Lens:
    from cutaway.lab.lens import look

    return look(language, language.encode([{"role": "user", "content": text}] if chat else text), places=places)


def _show(model: str, language: Language, root: Part, length: int, lens: Lens | None, *, fold: bool) -> None:
    from cutaway.cli.drawing import draw_lens, draw_tree

    for line in summary(model, language, root, length):
        _print(line)
    _print("")
    draw_tree(root, type(language.spec).__name__.lower(), fold=fold)
    if fold and len(language.spec.blocks) > 1:
        say("numbers are of one part, shares of all that are alike; of similar blocks what differs; --all shows all")
    if lens is not None:
        _print(f"\nbehind {lens.text!r} ({len(lens.pieces)} tokens):")
        draw_lens(lens)
        say("residual: its norm; attention: how evenly a head looks at all tokens, a column each; guess: logit lens")


def _print(text: str) -> None:
    """A line on stdout, broken at spaces where a terminal is too narrow for it."""
    console = results()
    console.print(safe(text), markup=False, soft_wrap=not console.is_terminal)


def summary(model: str, language: Language, root: Part, length: int) -> list[str]:
    """Two lines: what it is, and what all of it takes."""
    spec = language.spec
    bits = 8 * root.bytes / root.parameters
    own = "no head" if getattr(spec, "head", spec) is None else "a head of its own"
    head = "tied head" if spec.tied else own
    return [
        f"{model}: vocab {spec.vocab}, dim {spec.dim}, {len(spec.blocks)} blocks, context {spec.length}, {head}",
        f"{root.parameters / 1e6:.1f} million parameters in {megabytes(root.bytes)} ({', '.join(root.formats)}; "
        f"{bits:.1f} bits each); {root.flops / 1e6:.0f} million FLOPs a token at {length}; "
        f"cache {megabytes(round(root.cache_bytes))} a token, {megabytes(root.kept_bytes)} at {length}",
    ]


def _zoom(language: Language, part: Part, as_json: bool) -> None:
    from cutaway.lab.tensors import statistics, tensors

    found = [
        {
            "name": f"{part.path}.{name}",
            "shape": list(tensor.shape),
            "format": tensor.format,
            "bytes": tensor.bytes,
            **{key: _finite(value) for key, value in asdict(statistics(tensor.slabs())).items()},
        }
        for name, tensor in tensors(language.module.get_submodule(part.path))
    ]
    if as_json:
        show_json({"schema": SCHEMA, "part": part_in_json(part), "tensors": found})
        return
    from cutaway.cli.drawing import draw_tree, place
    from cutaway.lab.explain.table import KINDS

    value = "" if part.value is None else f", built by {part.value!r}"
    where = f" ({place(part)})" if part.file else ""
    _print(f"{part.path}: {part.kind}{where}{value}\n")
    draw_tree(part, part.name)
    if found:
        _print("")
        show_table(
            [Column(title=title, align="left" if title in ("tensor", "format") else "right") for title in _TENSOR],
            [_tensor_row(row, part.path) for row in found],
        )
    if part.kind in KINDS:
        say(f"what it is: cutaway explain {KINDS[part.kind]}")


_TENSOR = ("tensor", "shape", "format", "bytes", "mean", "std", "min", "max")


def _tensor_row(row: dict[str, Any], path: str) -> list[str]:
    numbers = [row[key] for key in ("mean", "deviation", "least", "most")]
    bad = f" ({row['nan']} NaN, {row['infinite']} infinite)" if row["nan"] or row["infinite"] else ""
    return [
        row["name"].removeprefix(f"{path}.") + bad,
        " × ".join(map(str, row["shape"])),
        row["format"],
        megabytes(row["bytes"]),
        *("-" if number is None else f"{number:.4g}" for number in numbers),
    ]


def _finite(value: Any) -> Any:
    """JSON has no NaN: a statistic of no numbers is null."""
    return None if isinstance(value, float) and value != value else value


def _check(language: Language, model: str, as_json: bool) -> None:
    """Look through all weights; leaves with exit code 1 if any is not finite."""
    from cutaway.base.progress import track
    from cutaway.lab.tensors import faults, tensors

    looked = [(name, one, faults(one.slabs())) for name, one in track(list(tensors(language.module)), "checking")]
    found = [
        {"tensor": name, "format": one.format, "nan": bad.nan, "infinite": bad.infinite, "of": one.count}
        for name, one, bad in looked
        if bad
    ]
    if as_json:
        show_json({"schema": SCHEMA, "model": model, "checked": len(looked), "faults": found})
    elif found:
        titles = ("tensor", "format", "nan", "infinite", "of")
        show_table(
            [Column(title=title, align="left" if title in ("tensor", "format") else "right") for title in titles],
            [[str(fault[title]) for title in titles] for fault in found],
        )
    else:
        total = sum(one.count for _, one, _ in looked)
        results().print(f"{len(looked)} tensors, {total:,} numbers: all finite")
    if found:
        raise typer.Exit(1)


def part_in_json(part: Part) -> dict[str, Any]:
    """A part and all below it, in plain units."""
    return {
        "path": part.path,
        "kind": part.kind,
        "value": None if part.value is None else type(part.value).__name__,
        "shape": None if part.shape is None else list(part.shape),
        "parameters": part.parameters,
        "share": part.share,
        "flops_per_token": part.flops,
        "cache_bytes_per_token": part.cache_bytes,
        "cache_bytes_at_length": part.kept_bytes,
        "bytes": part.bytes,
        "formats": list(part.formats),
        "file": part.file or None,
        "line": part.line or None,
        "children": [part_in_json(child) for child in part.children],
    }


def in_json(model: str, language: Language, root: Part, length: int, lens: Lens | None) -> dict[str, Any]:
    from cutaway.lab.anatomy import architecture

    plain = {
        "schema": SCHEMA,
        "model": model,
        "architecture": architecture(language.spec) | {"blocks": len(language.spec.blocks)},
        "length": length,
        "parts": part_in_json(root),
    }
    return plain if lens is None else plain | {"prompt": asdict(lens)}


def _write_page(file: Path, model: str, root: Part, lens: Lens | None, length: int, language: Language) -> None:
    from cutaway.base.paths import atomic
    from cutaway.lab.figures import lens_sections, tree_section
    from cutaway.lab.page import page

    lead = summary(model, language, root, length)
    sections = [tree_section(root, type(language.spec).__name__.lower(), length)]
    sections += [] if lens is None else lens_sections(lens)
    with atomic(file) as temporary:
        temporary.write_text(page(f"{model}, cut open", lead, sections), encoding="utf-8")
    say(f"written: {file}")
