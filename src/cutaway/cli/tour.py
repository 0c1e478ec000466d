"""`cutaway tour`: see it all in a few minutes. Asks nothing; ends with a page to keep.

A stop is a title and a function that looks at one thing, prints it, and leaves a section for the page. Later parts add
theirs to `STOPS`.   Read next: cli/open.py, lab/bound.py, lab/page.py
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cutaway.cli import console, threads
from cutaway.cli.opening import open_language
from cutaway.cli.options import Attend
from cutaway.cli.streaming import Reading, follow
from cutaway.weights import shelf

if TYPE_CHECKING:
    from cutaway.infer.answer import Piece
    from cutaway.infer.language import Language
    from cutaway.lab.bound import Bound
    from cutaway.lab.lens import Lens
    from cutaway.lab.page import Section

MODEL = "smollm2-135m"
FRANCE = "What is the capital of France?"
QUESTIONS = (FRANCE, "用中文介绍一下你自己。", "Write a Python function that returns the square of x.")
MOST_TOKENS = 48
MOST_SECONDS = 45.0  # for an answer, so that the tour ends in time on the slowest machine
PLACES = 10  # tokens across the picture of early guesses
PAGE = "cutaway-tour.html"
GO_ON = (
    ("cutaway chat", "talk with it yourself"),
    (f"cutaway open {MODEL} --part blocks.3.mixer", "one part and the numbers in it"),
    (f'cutaway open {MODEL} --prompt "The sky is"', "what any text does inside"),
    ("cutaway swap --list", "parts that yours can take the place of, in the real model"),
    ("cutaway explain", "what each part is, with its equation, paper and cost"),
    (f"cutaway generate {MODEL} - < FILE", "continue a text"),
    ("cutaway train nano", "train a small model from raw text, in about three minutes"),
    (f"cutaway serve {MODEL}", "serve it to any program that speaks OpenAI's API"),
    (f"cutaway profile {MODEL}", "where the time of a step goes, part by part"),
    ("cutaway doctor", "what this machine can do"),
)


@dataclass(kw_only=True)
class Visit:
    """What stops leave for those behind them, and for the page."""

    context: typer.Context
    load: float | None = None  # programs that wanted a core before the tour began
    attend: str | None = None
    language: Language | None = None
    lead: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    answers: list[tuple[str, Reading]] = field(default_factory=list)

    @property
    def model(self) -> Language:
        assert self.language is not None, "the first stop opens the model"
        return self.language


@dataclass(frozen=True, kw_only=True)
class Stop:
    title: str
    see: Callable[[Visit], None]


def tour(
    context: typer.Context,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", dir_okay=False, help="Where the page is written.")
    ] = Path(PAGE),
    train: Annotated[bool, typer.Option("--train/--no-train", help="Also train a small model, for a minute.")] = True,
    attend: Attend = None,
) -> None:
    """See it all in a few minutes: open, ask, train a model.

    Nothing is asked. At the end there is a page to keep, in the current folder or at --out.
    """
    from cutaway.base.paths import atomic

    if attend is not None:
        threads.apply(context)
        from cutaway.ops.choice import choose_attend

        choose_attend(attend)  # what cannot run here is said before anything begins
    visit, start = Visit(context=context, load=_load(), attend=attend), time.perf_counter()
    _say(_welcome())
    stops = [stop for stop in STOPS if train or stop.see is not train_one]
    for number, stop in enumerate(stops, start=1):
        _say(f"\n{number}/{len(stops)}  {stop.title}", style="bold")
        stop.see(visit)
    from cutaway.lab.page import page

    text = page(f"Cutaway: {MODEL} with the casing cut away", visit.lead, [*visit.sections, _go_on()])
    with atomic(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    _say(f"\nDone in {_minutes(time.perf_counter() - start)}. The page: {out.resolve()}", style="bold")
    _say("")
    console.show_table((console.Column(title="command"), console.Column(title="what it does", wrap=True)), GO_ON)


def _welcome() -> str:
    fetching = ""
    if shelf.path_of(MODEL) is None:
        fetching = f", and fetching the model once ({console.megabytes(shelf.find(MODEL).transfer)})"
    return f"The tour takes about 3 minutes on two free cores, at most 6{fetching}. Ctrl-C leaves it."


def get_and_open(visit: Visit) -> None:
    from cutaway.cli.drawing import draw_tree
    from cutaway.cli.open import summary
    from cutaway.lab.anatomy import anatomy
    from cutaway.lab.figures import tree_section

    visit.language = open_language(visit.context, MODEL, attend=visit.attend)
    length = min(1024, visit.model.spec.length)
    root = anatomy(visit.model.module, length=length, dtype=visit.model.dtype)
    visit.lead += summary(MODEL, visit.model, root, length)
    for line in visit.lead:
        _say(line)
    _say("")
    draw_tree(root, "decoder")
    visit.sections.append(tree_section(root, "decoder", length))


def ask(visit: Visit) -> None:
    for question in QUESTIONS:
        _say(f"\n> {question}", style="bold cyan")
        reading = Reading()
        follow(lambda question=question: _in_time(visit.model, question), console.write, reading)
        console.write("\n")
        _say(f"  ({reading.usage})", style="dim")
        visit.answers.append((question, reading))
    visit.sections.append(_answers(visit.answers))


def _in_time(language: Language, question: str) -> Iterator[Piece]:
    """The answer's pieces, given up after MOST_SECONDS."""
    end = time.perf_counter() + MOST_SECONDS
    for piece in language.stream([{"role": "user", "content": question}], max_tokens=MOST_TOKENS):
        yield piece
        if time.perf_counter() > end:
            return


def _answers(answers: list[tuple[str, Reading]]) -> Section:
    from cutaway.lab.page import Section

    body = "".join(
        f'<div class="panel"><p class="question">{escape(question)}</p><p class="answer">{escape(reading.text)}</p>'
        f'<p class="note">{escape(reading.usage)}</p></div>'
        for question, reading in answers
    )
    note = (
        "Greedy: always the likeliest token. It was trained on English; it reads some Chinese and answers in English."
    )
    return Section(title="What it answered", body=body, note=note)


def measure_bound(visit: Visit) -> None:
    from cutaway.cli import machine
    from cutaway.lab import measure
    from cutaway.lab.bound import Bound, product_seconds, traffic
    from cutaway.lab.figures import measure_bars
    from cutaway.lab.page import Section

    spent = [(len(one.pieces) - 1, one.last - one.first) for _, one in visit.answers if one.rate is not None]
    if not spent:
        _say("The answers were too short to say how fast they came.")
        return
    found = machine.look()
    ids = visit.model.encode([{"role": "user", "content": FRANCE}])
    kept = sum(stream.bytes(len(ids), visit.model.dtype) for one in visit.model.spec.streams() for stream in one)
    bound = Bound(
        weights=traffic(visit.model.module),
        cache=kept,
        bandwidth=measure.read_bandwidth(measure.buffer_size(found.cache, found.memory_free)),
        seconds=sum(seconds for _, seconds in spent) / sum(tokens for tokens, _ in spent),
        products=product_seconds(visit.model),
    )
    text = in_words(bound)
    if visit.load is not None and visit.load > found.cores / 2:
        text.append(
            f"But other programs kept this machine busy (a load of {visit.load:.1f} on {found.cores} cores before the "
            f"tour began): every figure is less than it can do."
        )
    for line in text:
        _say(line)
    rows = [
        ("memory alone would allow", bound.roof, f"{bound.roof:.0f} tokens/s"),
        ("matrix products alone", 1 / bound.products, f"{1 / bound.products:.0f} tokens/s"),
        ("the whole model, answering", bound.rate, f"{bound.rate:.0f} tokens/s"),
    ]
    body = "".join(f"<p>{escape(line)}</p>" for line in text) + f'<div class="panel">{measure_bars(rows)}</div>'
    note = f"Measured on {found.processor or 'this processor'}, {found.cores} cores, while the tour ran."
    visit.sections.append(Section(title="How fast, and what bounds it", body=body, note=note))


def _load() -> float | None:
    """How many programs wanted a core over the last minute; None where the system does not tell (Windows)."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def in_words(bound: Bound) -> list[str]:
    """What bounds the speed, in three sentences that follow the numbers."""
    share, reading = bound.rate / bound.roof, (bound.weights + bound.cache) / bound.bandwidth
    lines = [
        f"{bound.rate:.1f} tokens/s. Each token reads all weights once, {console.megabytes(bound.weights)}, and what "
        f"the cache holds, {console.megabytes(bound.cache)}. This machine reads {bound.bandwidth / 1e9:.1f} GB/s, so "
        f"memory allows {bound.roof:.0f} tokens/s at most: {100 * share:.0f}% of that is reached.",
        f"A token takes {1000 * bound.seconds:.1f} ms. Its matrix products take {1000 * bound.products:.1f} ms "
        f"({1000 * reading:.1f} ms would do if they only read), everything else {1000 * bound.rest:.1f} ms.",
    ]
    if share > 0.6:
        lines.append("So memory is what bounds it: fewer bytes per weight would make it faster, more cores would not.")
    elif bound.rest > bound.products:
        lines.append(
            "So memory is not what bounds it here: most of the time goes on the many small operations between the "
            "products, each of which has to be started."
        )
    else:
        lines.append(
            "So memory is not what bounds it here: most of the time goes on arithmetic, unpacking the weights and "
            "multiplying them."
        )
    return lines


def look_inside(visit: Visit) -> None:
    from cutaway.lab.figures import lens_sections
    from cutaway.lab.lens import look

    ends = visit.model.tokenizer.eos_ids if visit.model.tokenizer else frozenset()
    said = [piece.token for question, one in visit.answers if question == FRANCE for piece in one.pieces]
    ids = visit.model.encode([{"role": "user", "content": FRANCE}]) + [token for token in said if token not in ends]
    # The last token of the answer predicts its end, so the one before the name is well inside the picture.
    lens = look(visit.model, ids, places=PLACES)
    place = _telling(lens)
    _say(f'What it would say behind "{_tail(lens, place)}" if it stopped after a block (the logit lens):')
    for layer in lens.layers:
        if layer.block % 5 == 0 or layer is lens.layers[-1]:
            best = layer.guesses[place][0]
            _say(f"  block {layer.block:>2}  {best.piece!r} {100 * best.probability:.0f}%")
    settled = lens.first_right(place)
    if settled == lens.layers[-1].block:
        _say("Only the last block brings it up.")
    elif settled is not None:
        _say(f"It has made up its mind from block {settled} on.")
    visit.sections += lens_sections(lens, f'While it reads "{FRANCE}" and its own answer. ')


def _telling(lens: Lens) -> int:
    """The place before "Paris", or else the last one whose next token was read: where a guess can be compared."""
    following = [lens.pieces[place + 1].strip() for place in lens.places[:-1]]
    return following.index("Paris") if "Paris" in following else max(0, len(lens.places) - 2)


def _tail(lens: Lens, place: int) -> str:
    return "".join(lens.pieces[max(0, lens.places[place] - 4) : lens.places[place] + 1])


def put_in_a_part(visit: Visit) -> None:
    import torch

    from cutaway.cli.own_part import own_part

    model = shelf.path_of(MODEL)
    many = threads.wanted(visit.context) or torch.get_num_threads()
    section = own_part(MODEL if model is None else str(model), many, FRANCE, _say)
    visit.sections += [section] if section is not None else []


def serve_it(visit: Visit) -> None:
    from cutaway.cli.crowd import crowd

    section = crowd(visit.model, _say)
    visit.sections += [section] if section is not None else []


def train_one(visit: Visit) -> None:
    from cutaway.cli.lesson import lesson

    section = lesson(_say, visit.attend)
    visit.sections += [section] if section is not None else []


def _go_on() -> Section:
    from cutaway.lab.page import Section

    rows = "".join(f"<tr><td><code>{escape(c)}</code></td><td>{escape(what)}</td></tr>" for c, what in GO_ON)
    return Section(title="Go on", body=f'<div class="panel"><table>{rows}</table></div>')


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.1f} minutes"


def _say(text: str, style: str = "") -> None:
    console.results().print(console.safe(text), style=style or None, markup=False, soft_wrap=False)


STOPS: tuple[Stop, ...] = (
    Stop(title="Open a model: every part of it", see=get_and_open),
    Stop(title="Talk with it", see=ask),
    Stop(title="How fast, and what bounds it", see=measure_bound),
    Stop(title="Look inside while it reads", see=look_inside),
    Stop(title="Serve it to many at once", see=serve_it),
    Stop(title="Put a part of your own into it", see=put_in_a_part),
    Stop(title="Train a small one from raw text, and talk to it", see=train_one),
)
