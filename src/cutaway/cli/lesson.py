"""A stop of the tour: a model is trained from raw text while one looks on, and then talked to.

Read next: cli/train.py, recipes/nano.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cutaway.base.errors import NotFound

if TYPE_CHECKING:
    from cutaway.lab.page import Section

SECONDS = 60.0  # of training; a whole `cutaway train nano` takes about three minutes
CHANGES = ("steps=400", "evaluate=100", "task.evaluated=10", "task.sampling.tokens=60")
LINE = "What light through yonder window breaks?"
ANSWER = 60  # tokens


def lesson(say: Callable[[str], None], attend: str | None = None) -> Section | None:
    """Trains `nano` for a minute and asks it one line; None, with a remark, where its corpus cannot be had.

    `attend`: the form of attention (ops/choice.py).
    """
    from cutaway.weights import corpora

    try:
        corpora.located("shakespeare")
    except NotFound as error:
        say(f"Left out: {error}")
        return None
    with TemporaryDirectory() as folder:
        before, after, answer, steps = _learn(Path(folder) / "nano", say, attend)
    say(f"\nBefore:  {_short(before)}")
    say(f"After {steps} steps:  {_short(after)}")
    say(f"\n> {LINE}\n{answer}")
    return _section(before, after, answer, steps)


def _learn(folder: Path, say: Callable[[str], None], attend: str | None) -> tuple[str, str, str, int]:
    """What it wrote before and after, what it answered, and how many steps it made."""
    from cutaway.cli.panel import watcher
    from cutaway.infer.language import Language
    from cutaway.infer.load import load
    from cutaway.ops.forms import attending
    from cutaway.recipes.table import made
    from cutaway.recipes.training import Training
    from cutaway.train.run import SAMPLES, Run

    recipe, steps = made("nano", CHANGES if attend is None else (*CHANGES, f"attend={attend}")), 0
    training = Training.ready(recipe, Run.create(folder, "nano", recipe), say)
    for fact in training.prepared.facts:
        say(fact)
    end = time.perf_counter() + SECONDS
    with watcher(recipe.steps, 0, training.prepared.flops, None) as panel:
        for moment in training.steps(lambda: time.perf_counter() > end):
            panel.show(moment)
            steps = moment.line["step"]
    before, after = ((folder / SAMPLES / f"{name}.txt").read_text(encoding="utf-8") for name in ("before", "after"))
    language, question = load(folder, forms=attending(attend)), [{"role": "user", "content": LINE}]
    assert isinstance(language, Language)
    answer = language.generate(question, max_tokens=ANSWER, temperature=0.7, top_k=40, seed=0, stop=("**",))
    return before, after, answer.text.strip(), steps


def _short(text: str) -> str:
    return " ".join(text.split())[:160]


def _section(before: str, after: str, answer: str, steps: int) -> Section:
    from cutaway.lab.page import Section

    shown = (("Before the first step", before), (f"After {steps} steps", after), (f"Asked: {LINE}", answer))
    body = "".join(
        f'<div class="panel"><p class="question">{escape(title)}</p><p class="answer">{escape(text.strip())}</p></div>'
        for title, text in shown
    )
    note = "One million parameters, trained from raw text while the tour ran. `cutaway train nano` gives it longer."
    return Section(title="A model of your own", body=body, note=note)
