"""`cutaway swap PART=FILE:FUNCTION`: the reader's own part, judged, then run in a real model.

Read next: lab/swap/table.py, lab/swap/sandbox.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutaway.base.errors import BadInput
from cutaway.base.paths import expand
from cutaway.cli import console, threads
from cutaway.cli.chat import Conversation
from cutaway.cli.console import Column, say, show_json, show_table
from cutaway.cli.get import bring
from cutaway.cli.options import Attend, MaxTokens, Seed, Temperature
from cutaway.cli.streaming import Reading, follow
from cutaway.infer.decoding import Decoding
from cutaway.lab.swap.verdict import Verdict
from cutaway.weights.shelf import SHELF

if TYPE_CHECKING:
    from cutaway.lab.swap.part import Part
    from cutaway.lab.swap.sandbox import Sandbox


PRINTED = 400  # characters of what a file prints that are shown


def swap(
    context: typer.Context,
    mine: Annotated[
        str,
        typer.Argument(metavar="[PART=FILE:FUNCTION]", help="As in ops.attend=./mine.py:attend; --list names parts."),
    ] = "",
    model: Annotated[str, typer.Option("--model", "-m", help="The model that it runs in.")] = "smollm2-135m",
    check: Annotated[bool, typer.Option("--check", help="Only judge: the exit code is 0 or 1.")] = False,
    stub: Annotated[str | None, typer.Option("--stub", metavar="PART", help="Print the file to fill in.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="What can be replaced.")] = False,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="Answer this and end; no conversation.")] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Run it also where the judge finds it wrong.")] = False,
    seconds: Annotated[float, typer.Option(min=1.0, help="The longest wait for one case, or one token.")] = 30.0,
    memory: Annotated[int, typer.Option(min=1, help="Gigabytes that your file may take.")] = 4,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.0,
    seed: Seed = None,
    attend: Attend = None,
    as_json: Annotated[bool, typer.Option("--json", help="The verdict as JSON.")] = False,
) -> None:
    """Your own part in a real model.

    Judged first, with the part's checks: where one fails you see the smallest case, and the property that broke. Then
    the model talks with your part in it. All of it runs in a process of its own, with limits on time, memory and files
    (on Windows on time alone). --stub prints the file to start from.
    """
    if (bool(mine) + (stub is not None) + listed) != 1:
        raise BadInput("give PART=FILE:FUNCTION, --stub PART or --list", field="PART")
    if listed:
        _list(as_json)
        return
    from cutaway.lab.swap.table import find

    if stub is not None:
        from cutaway.lab.swap.stub import stub as written

        sys.stdout.write(written(find(stub)))
        return
    from cutaway.lab.swap.source import present, split

    name, path, function = split(mine)
    part = find(name)
    _attention(part, attend)
    decoding = Decoding(max_tokens=max_tokens, temperature=temperature, seed=seed)
    order = {
        "part": part.name,
        "path": str(present(path)),
        "function": function or part.name.rpartition(".")[2],
        "threads": threads.wanted(context) or _threads(),
        "seconds": seconds,
        "timed": not as_json,
    }
    verdict = judged({**order, "do": "judge"}, memory * 2**30, watched=not as_json)
    if as_json:
        show_json(verdict.plain())
    else:
        console.write("\n".join(told(verdict)) + "\n")
    if check or (not verdict.passed and not anyway):
        raise typer.Exit(0 if verdict.passed else 1)
    if part.place is None:
        say(f"{part.name} has no place in a model that talks; it was judged and timed")
        return
    from cutaway.lab.swap.sandbox import Ended

    try:
        talk({**order, "do": "talk", "model": _model(model), "attend": attend}, memory * 2**30, decoding, prompt)
    except Ended as ended:
        console.write("\n".join(("", *told(ended.verdict), "")))
        raise typer.Exit(1) from ended


def _attention(part: Part, attend: str | None) -> None:
    """Raises BadInput where there is nothing to choose, and what `choose_attend` says of what cannot run here."""
    if attend is None:
        return
    if part.place == "attend":
        raise BadInput(f"{part.name} is what attends: your own takes the place of every form", source="--attend")
    from cutaway.ops.choice import choose_attend

    choose_attend(attend)


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _model(name: str) -> str:
    """What the process can open: a short name is fetched first, a path is made whole."""
    path = expand(name)
    if path.exists():
        return str(path.resolve())
    if name in SHELF:
        bring(name)
    return name


def judged(order: dict[str, Any], memory: int, *, watched: bool) -> Verdict:
    """What a process of its own says of the file; `watched`: what it is at is shown meanwhile."""
    from contextlib import nullcontext

    from cutaway.lab.swap.sandbox import Ended, Sandbox

    messages = console.messages()
    status = messages.status("judging ...") if messages.is_terminal and watched else nullcontext()
    verdict = None
    with Sandbox(order, memory=memory) as sandbox, status as shown:
        try:
            for answer in sandbox.answers():
                if "at" in answer and shown is not None:
                    shown.update(f"judging: {answer['at']}")
                elif "verdict" in answer:
                    verdict = Verdict.of(answer["verdict"])
                    if not (verdict.passed and order["timed"]):
                        break
                elif "speed" in answer:
                    _show_speed(answer["speed"])
                    break
        except Ended as ended:
            verdict = verdict or ended.verdict
        if watched:
            _remarks(sandbox)
    assert verdict is not None
    return verdict


def _remarks(sandbox: Sandbox) -> None:
    printed = sandbox.printed.strip()
    if printed:
        say(f"your file printed: {printed[:PRINTED]}{' ...' if len(printed) > PRINTED else ''}")
    if sandbox.unlimited:
        say(f"not limited on this system: {', '.join(sandbox.unlimited)}")


def _show_speed(speed: dict[str, Any]) -> None:
    if not speed:
        return
    yours, ours = speed["yours"], speed["ours"]
    if speed["unit"] == "tokens/s":
        places = speed["places"]
        said = f"in {places} place{'' if places == 1 else 's'}: yours {yours:.1f} tokens/s, ours {ours:.1f}"
        say(said + (f" ({yours / ours:.2f} times)" if ours else ""))
    else:
        say(f"one call: yours {yours * 1e3:.3f} ms, ours {ours * 1e3:.3f} ms (readable form)")


def talk(order: dict[str, Any], memory: int, decoding: Decoding, prompt: str | None) -> Reading:
    """A conversation, or one answer, with the part in the model; returns what was answered to the prompt. Raises Ended
    where the process ends."""
    from cutaway.lab.swap.sandbox import Remote, Sandbox

    say(f"opening {Path(order['model']).name} with your part in it ...")
    reading = Reading()
    with Sandbox(order, memory=memory) as sandbox:
        try:
            template = _opened(sandbox)
            remote: Any = Remote(sandbox)
            if prompt is not None:
                asked = [{"role": "user", "content": prompt}] if template else prompt
                follow(lambda: remote.stream(asked, **vars(decoding)), console.write, reading)
                console.write("\n")
                say(reading.usage)
                return reading
            if not template:
                raise BadInput("is no chat model: give --prompt", source=order["model"])
            Conversation(remote, decoding, None).run(by_hand=sys.stdin.isatty())
        finally:
            _remarks(sandbox)
    return reading


def _opened(sandbox: Sandbox) -> bool:
    """Waits for the model, shows its speed with the part and without, and says whether it has a chat template."""
    from cutaway.lab.swap.sandbox import Ended

    for answer in sandbox.answers():
        if "verdict" in answer:
            raise Ended(Verdict.of(answer["verdict"]))
        if "refused" in answer:
            raise BadInput(answer["refused"])
        if "speed" in answer:
            _show_speed(answer["speed"])
            return answer["template"]
    return False


def told(verdict: Verdict) -> list[str]:
    """Lines for a person: what, why, the smallest case, and the lines of their own file."""
    lines = [f"{verdict.part}: {verdict.outcome}"]
    if not verdict.passed:
        lines = [f"{verdict.part} {verdict.outcome}: {verdict.message}"]
    lines += [f"  {line}" for line in verdict.trace]
    if verdict.outcome == "raises" and verdict.broke:
        lines.append(f"  broken: {verdict.broke}: {verdict.why}")
    if verdict.case is not None:
        case = verdict.case
        lines += [f"  smallest case: {case.what}", f"  {case.place}: got {case.got}, expected {case.expected}"]
        lines += [f"    {name} = {value}" for name, value in case.inputs.items()]
    lines += [f"  also: {other}" for other in verdict.others]
    return lines + [f"  note: {note}" for note in verdict.notes]


def _list(as_json: bool) -> None:
    from cutaway.lab.swap.judge import short_signature
    from cutaway.lab.swap.table import PARTS

    if as_json:
        show_json([{"part": one.name, "about": one.about, "signature": short_signature(one)} for one in PARTS.values()])
        return
    columns = (Column(title="PART"), Column(title="what", wrap=True), Column(title="called as", wrap=True))
    show_table(columns, [(one.name, one.about, short_signature(one)) for one in PARTS.values()])
