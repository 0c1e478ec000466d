"""`cutaway doctor`: what this machine is, what of it is used, and the two rates that bound a language model on it.

Read next: lab/measure.py
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import Annotated, Any

import typer

from cutaway.cli import kernels, threads
from cutaway.cli.console import Column, megabytes, messages, show_json, show_table

Report = dict[str, dict[str, Any]]  # section -> field -> value; the JSON of `--json`


def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, in plain units.")] = False,
    build: Annotated[
        bool, typer.Option("--build", help="Compile the kernels for this CPU now; measure nothing.")
    ] = False,
) -> None:
    """What this machine can do, measured: about five seconds.

    Bandwidth bounds answering (each token reads all weights once), the matmul rate bounds reading a prompt.
    """
    with _watching() as now:
        if build:
            report = {"kernels": kernels.build_now(now)}
            if as_json:
                show_json(report)
            return
        report = examine(context, now)
    if as_json:
        show_json(report)
        return
    rows = [
        (section if first else "", field, value)
        for section, part in in_words(report).items()
        for first, (field, value) in zip((True, *[False] * len(part)), part.items(), strict=False)
    ]
    show_table((Column(title="part"), Column(title="what"), Column(title="found", wrap=True)), rows)


def examine(context: typer.Context, now: Any) -> Report:
    """Look and measure; `now(text)` is told what is being done."""
    from cutaway.cli import machine

    now("looking at this machine")
    found = machine.look()
    built = kernels.found()
    now("starting torch")
    threads.apply(context)
    return {
        "machine": asdict(found) | {"features": list(found.features)},
        "torch": _torch(),
        "kernels": built,
        "forms": _forms(built["state"] == "built"),
        "attend": _attend(),
        "measured": _measured(found.cache, found.memory_free, now),
        "cutaway": _cutaway(),
    }


def _torch() -> dict[str, Any]:
    import torch

    from cutaway.base.device import pick_device

    return {
        "version": torch.__version__,
        "threads": torch.get_num_threads(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "device": pick_device(),
    }


def _forms(built: bool) -> dict[str, Any]:
    """For each replaceable function: the form that runs, and its readable sibling. `built`: whether kernels are."""
    from cutaway.ops.forms import FAST, READABLE, attending

    runs = attending() if built else FAST
    names = [field.name for field in fields(FAST)]
    return {
        name: {"runs": _name(getattr(runs, name)), "readable": _name(getattr(READABLE, name))}
        for name in names
        if callable(getattr(runs, name))
    }


def _attend() -> dict[str, Any]:
    """For each name that `--attend` takes: what it is, whether it runs where nothing is asked for, and what is missing
    here to run it at all."""
    from cutaway.ops.choice import ATTEND, choose_attend

    taken = choose_attend().name
    lacks = {name: choice.lacks() for name, choice in ATTEND.items()}
    return {
        name: {"runs": name == taken, "what": choice.what, "lacks": None if lacks[name] is None else str(lacks[name])}
        for name, choice in ATTEND.items()
    }


def _name(form: Any) -> str:
    return getattr(form, "__name__", type(form).__name__)


def _measured(cache: int | None, memory_free: int | None, now: Any) -> dict[str, Any]:
    import torch

    from cutaway.lab import measure

    size = measure.buffer_size(cache, memory_free)
    now("measuring memory")
    rates: dict[str, Any] = {
        "buffer_bytes": size,
        "read_bytes_per_second": measure.read_bandwidth(size),
        "copy_bytes_per_second": measure.copy_bandwidth(size),
    }
    for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16"), (torch.int8, "int8")):
        now(f"measuring {name} matmul")
        rates[f"{name}_operations_per_second"] = measure.matmul_rate(dtype)
    return rates


def _cutaway() -> dict[str, Any]:
    from importlib.util import find_spec

    from cutaway import __version__
    from cutaway.base.paths import home
    from cutaway.weights.shelf import SHELF, path_of

    return {
        "version": __version__,
        "cache": str(home()),
        "models": [name for name in SHELF if path_of(name)],
        "pip": find_spec("pip") is not None,
    }


def in_words(report: Report) -> dict[str, dict[str, str]]:
    """The same report as a person reads it."""
    machine, rates, own = report["machine"], report["measured"], report["cutaway"]
    free = f", {megabytes(machine['memory_free'])} free" if machine["memory_free"] is not None else ""
    memory = "unknown" if machine["memory"] is None else megabytes(machine["memory"]) + free
    return {
        "machine": {
            "system": machine["system"],
            "processor": machine["processor"],
            "features": " ".join(machine["features"]) or "none known",
            "cores": str(machine["cores"]),
            "cache": megabytes(machine["cache"]) if machine["cache"] else "unknown",
            "memory": memory,
            "compiler": machine["compiler"] or "none found",
        },
        "torch": {key: str(value) for key, value in report["torch"].items()},
        "kernels": kernels.in_words(report["kernels"]),
        "forms": {
            name: form["runs"] + ("" if form["runs"] == form["readable"] else f" (readable: {form['readable']})")
            for name, form in report["forms"].items()
        },
        "attend": {name: _told(name, one) for name, one in report["attend"].items()},
        "measured": {
            "memory read": f"{rates['read_bytes_per_second'] / 1e9:.1f} GB/s",
            "memory copy": f"{rates['copy_bytes_per_second'] / 1e9:.1f} GB/s (read and written)",
            **{f"{name} matmul": _rate(rates[f"{name}_operations_per_second"]) for name in ("fp32", "bf16", "int8")},
        },
        "cutaway": {
            "version": own["version"],
            "cache": own["cache"],
            "models here": ", ".join(own["models"]) or "none yet",
            "pip": "yes" if own["pip"] else "no: `cutaway get` needs it",
        },
    }


def _told(name: str, attend: dict[str, Any]) -> str:
    """One form of attention in a line: whether it runs, and why or why not."""
    if attend["lacks"] is not None:
        return f"{attend['what']}. Not here: {attend['lacks'].removeprefix('attend: ')}"
    return ("runs, as nothing else is asked for: " if attend["runs"] else f"by --attend {name}: ") + attend["what"]


def _rate(operations: float | None) -> str:
    return "not on this build" if operations is None else f"{operations / 1e9:.0f} Gop/s"


@contextmanager
def _watching() -> Iterator[Any]:
    """Yield `now(text)`, shown with a spinner on stderr where a person watches."""
    console = messages()
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status("") as status:
        yield lambda text: status.update(f"{text} ...")
