"""`cutaway plan MODEL --gpus N`: what training a model takes on each device, for every way to divide it.

Read next: lab/plan.py
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.base.paths import expand
from cutaway.cli.console import Column, say, show_json, show_table
from cutaway.weights.shelf import SHELF

if TYPE_CHECKING:
    from cutaway.lab.plan import Row, Setting
    from cutaway.models.decoder import Decoder

SIZE = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)([KMBT])", re.IGNORECASE)
UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
WAYS = ("ddp", "zero-1", "zero-2", "zero-3", "tensor", "pipeline")
MOST = 2**20  # devices
LENGTH = 1024  # tokens of a sequence where nobody said, and the model allows


def plan(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A recipe, a short name, a folder, a config.json, a .gguf file, or a size: 7.5B."
        ),
    ],
    gpus: Annotated[int, typer.Option("--gpus", min=1, max=MOST, help="Devices.")] = 8,
    batch: Annotated[int, typer.Option(min=1, max=MOST, help="Sequences in one pass of one copy of the model.")] = 1,
    length: Annotated[int | None, typer.Option(min=1, max=2**24, help="Tokens of a sequence.")] = None,
    precision: Annotated[str, typer.Option(help="mixed, float32 or bfloat16.")] = "mixed",
    strategy: Annotated[str, typer.Option(help=f"{', '.join(WAYS)}, or all.")] = "all",
    tensor: Annotated[int, typer.Option(min=1, help="Devices that share one layer.")] = 1,
    pipeline: Annotated[int, typer.Option(min=1, help="Devices that share the layers out.")] = 1,
    memory: Annotated[float | None, typer.Option(help="GB that a device has.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """What training a model takes on each of many devices: memory by kind, and bytes sent for each step.

    Every row is a way to divide it: ddp copies all; zero-1, -2 and -3 (FSDP) shard the optimiser's state, gradients
    and weights; tensor cuts every layer, pipeline shares the layers out. With --tensor and --pipeline, ddp and zero
    divide what is left of the devices.
    """
    if strategy not in (*WAYS, "all"):
        raise BadInput(f'"{strategy}" is not known{did_you_mean(strategy, WAYS)}', field="--strategy")
    if memory is not None and not memory > 0:
        raise BadInput(f"must be positive, is {memory}", field="--memory")
    from cutaway.lab.plan import Setting

    shape = shape_of(model)
    longest = LENGTH if isinstance(shape, int) else min(shape.length, LENGTH)
    setting = Setting(
        devices=gpus, tensor=tensor, pipeline=pipeline, batch=batch, length=length or longest, precision=precision
    )
    rows, refused = _rows(shape, setting, WAYS if strategy == "all" else (strategy,))
    if strategy != "all" and refused:
        raise refused[strategy]
    if strategy != "all" and memory is not None:
        _check_fit(shape, setting, rows[0], memory)
    if as_json:
        show_json(_plain(model, shape, setting, rows, refused))
        return
    _show(model, shape, setting, rows, refused, memory)


def shape_of(name: str) -> Decoder | int:
    """The value of a model, or just its number of parameters. Raises NotFound and BadInput for what is neither."""
    size = SIZE.fullmatch(name)
    if size:
        return round(float(size[1]) * UNITS[size[2].upper()])
    from cutaway.recipes.listing import RECIPES

    if name in RECIPES:
        from cutaway.recipes.table import made

        return _decoder(getattr(made(name).task, "model", None), name)
    from cutaway.cli.get import bring
    from cutaway.infer.load import locate
    from cutaway.weights.gguf.config import architecture_named
    from cutaway.weights.gguf.model import read_spec as read_gguf_spec
    from cutaway.weights.gguf.reader import read_gguf
    from cutaway.weights.huggingface import CONFIG, read_spec

    path = expand(name)
    if path.name == CONFIG and path.is_file():
        return _decoder(read_spec(path.parent)[1], name)
    if name in SHELF and not path.is_dir():
        bring(name)
    path = Path(locate(name))
    if path.is_dir():
        return _decoder(read_spec(path)[1], name)
    file = read_gguf(path)
    return read_gguf_spec(file, architecture_named(file.metadata, path))


def _decoder(spec: Any, name: str) -> Decoder:
    from cutaway.models.decoder import Decoder

    if not isinstance(spec, Decoder):
        raise BadInput("only decoders can be planned by name: give its size instead (110M)", source=name)
    return spec


def _rows(shape: Decoder | int, setting: Setting, ways: tuple[str, ...]) -> tuple[list[Row], dict[str, BadInput]]:
    """A row for each way, and why there is none for the others."""
    from dataclasses import replace

    from cutaway.lab.plan import plan as divide

    rows, refused = [], {}
    for way in ways:
        try:
            if way in ("tensor", "pipeline"):
                alone = replace(setting, **{"tensor": 1, "pipeline": 1, way: setting.devices})
                rows.append(replace(divide(shape, alone, ("ddp",))[0], strategy=way))
            else:
                rows += divide(shape, setting, (way,))
        except BadInput as error:
            refused[way] = error
    if not rows:
        raise next(iter(refused.values()))
    return rows, refused


def _check_fit(shape: Decoder | int, setting: Setting, row: Row, memory: float) -> None:
    """Raises BadInput where the devices are too few or too small, with a number that would do, if one does."""
    if row.total <= memory * 1e9:
        return
    enough = _enough(shape, setting, row.strategy, memory)
    hint = f"{enough} devices would do" if enough else "more devices do not help"
    has = f"{gigabytes(row.total)} on each of {setting.devices} devices, which have {memory:g} GB"
    raise BadInput(f"needs {has}; {hint}", field=row.strategy)


def _enough(shape: Decoder | int, setting: Setting, way: str, memory: float) -> int | None:
    """The first doubling of the devices that is enough."""
    from dataclasses import replace

    devices = setting.devices
    while devices < MOST:
        devices *= 2
        try:
            rows, _ = _rows(shape, replace(setting, devices=devices), (way,))
        except BadInput:
            return None
        if rows[0].total <= memory * 1e9:
            return devices
    return None


def _show(
    model: str,
    shape: Decoder | int,
    setting: Setting,
    rows: list[Row],
    refused: dict[str, BadInput],
    memory: float | None,
) -> None:
    titles = ("weights", "gradients", "optimiser", "gathered", "activations", "total", "sent per step")
    columns = [Column(title="strategy"), *(Column(title=title, align="right") for title in titles)]
    if memory is not None:
        columns.append(Column(title=f"in {memory:g} GB"))
    cells = []
    for row in rows:
        held = (row.weights, row.gradients, row.state, row.gathered, row.activations, row.total, row.sent)
        line = [row.strategy, *("-" if count is None else gigabytes(count) for count in held)]
        cells.append([*line, "yes" if row.total <= memory * 1e9 else "no"] if memory is not None else line)
    say(_heading(model, shape, setting))
    show_table(columns, cells)
    for way, error in refused.items():
        say(f"{way}: not possible: {error.message}")


def _heading(model: str, shape: Decoder | int, setting: Setting) -> str:
    from cutaway.cli.console import millions

    parameters = shape if isinstance(shape, int) else shape.cost(1, 1).parameters
    rows = f"{setting.batch} x {setting.length} tokens for each copy of the model"
    return f"{model}: {millions(parameters)} parameters on {setting.devices} devices, {setting.precision}, {rows}"


def _plain(
    model: str, shape: Decoder | int, setting: Setting, rows: list[Row], refused: dict[str, BadInput]
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "model": model,
        "parameters": shape if isinstance(shape, int) else shape.cost(1, 1).parameters,
        "setting": asdict(setting),
        "bytes": [{**asdict(row), "states": row.states, "total": row.total} for row in rows],
        "impossible": {way: error.message for way, error in refused.items()},
    }


def gigabytes(count: float) -> str:
    """Three digits, decimal units: 31.4 GB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * size:
            return f"{count / size:.{max(0, 3 - len(str(int(count / size))))}f} {unit}"
    return f"{count:.0f} B"
