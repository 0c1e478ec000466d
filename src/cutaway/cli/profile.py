"""`cutaway profile MODEL`: where the time of a step goes, part by part, beside what this machine could do.

Read next: lab/profile/phase.py, lab/measure.py
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutaway.base.errors import BadInput
from cutaway.cli.console import Column, messages, results, safe, say, show_json, show_table
from cutaway.cli.opening import Device, Dtype, ModelName, open_language
from cutaway.cli.options import Activations, Attend

if TYPE_CHECKING:
    from cutaway.infer.language import Language
    from cutaway.lab.profile.phase import Phase, Profile

LEAST, MOST = 4, 256  # new tokens, of which half are watched; streams
SLOW = 20.0  # seconds from which on it is told how long it will take


def profile(
    context: typer.Context,
    model: ModelName,
    prompt: Annotated[int, typer.Option(min=1, help="Tokens of each prompt.")] = 512,
    new: Annotated[int, typer.Option(min=LEAST, help="Steps of writing, one token each of every stream.")] = 64,
    streams: Annotated[str, typer.Option(metavar="N,N", help="Answers written at once, one table for each.")] = "1,16",
    dtype: Dtype = None,
    device: Device = None,
    attend: Attend = None,
    activations: Activations = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, in plain units.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", dir_okay=False, help="Write one self-contained page.")
    ] = None,
) -> None:
    """Where a step's time goes, part by part: reading a prompt, then writing with 1 and with 16 streams.

    Each part stands beside the bytes that it must read and the products that it must do, and what share it reaches of
    the speed at which this machine does that (`cutaway doctor` measures it too).
    """
    counts = _counts(streams)
    language = open_language(context, model, dtype=dtype, device=device, attend=attend, activations=activations)
    _check_length(language, prompt, new, max(counts))
    found = measured(model, language, prompt, new, counts)
    if html is not None:
        _write(found, html)
    if as_json:
        show_json(plain(found))
        return
    show(found)
    if html is not None:
        say(f"the page: {html.resolve()}")


def _counts(text: str) -> list[int]:
    """Numbers of streams, each once. Raises BadInput for anything else."""
    counts = [int(one) for one in text.split(",") if one.strip().isdecimal() and len(one.strip()) < 5]
    if len(counts) != len(text.split(",")) or not all(1 <= one <= MOST for one in counts):
        raise BadInput(f'"{text}" is not a list of numbers from 1 to {MOST}, such as 1,16', field="--streams")
    return list(dict.fromkeys(counts))


def _check_length(language: Language, prompt: int, new: int, streams: int) -> None:
    from cutaway.lab.profile.phase import room_for

    longest = prompt + room_for(prompt, new, streams)
    if longest > language.spec.length:
        said = f"what {streams} streams come to, {longest} tokens, is more than the model's {language.spec.length}"
        raise BadInput(said, field="--prompt, --new")


def measured(model: str, language: Language, prompt: int, new: int, counts: list[int]) -> Profile:
    """The machine's two rates, then every phase, with progress on stderr."""
    import torch

    from cutaway.base.progress import track
    from cutaway.cli import machine
    from cutaway.lab import measure
    from cutaway.lab.profile.phase import Profile, reading, writing

    look, shown = machine.look(), messages()
    with shown.status("measuring this machine ..."):
        bandwidth = measure.read_bandwidth(measure.buffer_size(look.cache, look.memory_free))
        kinds = dict.fromkeys((torch.float32, torch.bfloat16, language.dtype))
        rates = {one: rate for one in kinds if (rate := measure.matmul_rate(one)) is not None}
    language.check_weights()
    with shown.status("reading prompts ..."):
        read = reading(language, prompt)
    # Of a step of writing nothing is known yet: a guess is what reading as many tokens takes, and three at least.
    left = sum(count * read.bare + new * max(3, count) / read.rate for count in counts)
    if left > SLOW:
        say(f"about {max(1, math.ceil(left / 60))} min more")
    phases = [read]
    for count in counts:
        many = f"{count} stream{'s' * (count > 1)}"
        phases.append(
            writing(language, prompt, new, count, lambda items, what, many=many: track(items, f"{what}, {many}"))
        )
    return Profile(model=model, dtype=language.dtype, bandwidth=bandwidth, rates=rates, phases=tuple(phases))


def show(found: Profile) -> None:
    """One table for each phase, the longest part first."""
    from cutaway.lab.profile.page import HEAD, cells, flops_rate, in_words, title
    from cutaway.lab.units import sized

    rates = ", ".join(f"{flops_rate(rate)} in {_name(one)}" for one, rate in found.rates.items())
    _print(f"This machine reads {sized(found.bandwidth)}/s and multiplies {rates}.")
    columns = [Column(title=one, align="left" if one in ("part", "where") else "right") for one in HEAD]
    for phase in found.phases:
        _print(f"\n{title(phase)}", style="bold")
        _print(in_words(found, phase))
        lines = sorted(phase.lines, key=lambda line: -line.seconds)
        show_table(columns, [cells(found, phase, line) for line in lines])


def plain(found: Profile) -> dict[str, Any]:
    """For JSON: seconds, bytes, FLOPs."""
    return {
        "model": found.model,
        "bandwidth": found.bandwidth,
        "rates": {_name(one): rate for one, rate in found.rates.items()},
        "phases": [_phase(found, phase) for phase in found.phases],
    }


def _phase(found: Profile, phase: Phase) -> dict[str, Any]:
    names = ("name", "streams", "tokens", "length", "steps", "seconds", "bare", "overhead", "outside")
    return {
        **{name: getattr(phase, name) for name in names},
        "tokens_per_second": phase.rate,
        "roof": found.reached(phase),
        "parts": [
            {
                "part": line.part,
                "seconds": line.seconds,
                "calls": line.calls,
                "bytes": line.work.bytes,
                "flops": line.work.flops,
                "roof": found.share(phase, line),
                "where": list(line.where),
            }
            for line in phase.lines
        ],
    }


def _write(found: Profile, html: Path) -> None:
    import torch

    from cutaway.base.paths import atomic
    from cutaway.cli import machine
    from cutaway.lab.profile.page import profile_page

    count = torch.get_num_threads()
    processor = machine.look().processor or "this processor"
    text = profile_page(found, f"{processor}, {count} thread{'s' * (count > 1)}")
    with atomic(html) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _name(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


def _print(text: str, style: str = "") -> None:
    results().print(safe(text), style=style or None, markup=False)
