"""A stop of the tour: an attention that is not ours is judged, broken, and then answers in the real model.

Read next: cli/swap.py, lab/swap/example.py
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cutaway.base.errors import CutawayError
from cutaway.cli.streaming import Reading

if TYPE_CHECKING:
    from cutaway.lab.page import Section

PART = "ops.attend"
TOKENS = 24  # of the answer


def own_part(model: str, threads: int, question: str, say: Callable[[str], None]) -> Section | None:
    """Shows the stub, judges the file that the tour carries, breaks a line of it, and asks the model (a path or name)
    through it; None, with a remark, where no process could be started."""
    from cutaway.lab.swap import example
    from cutaway.lab.swap.sandbox import Ended
    from cutaway.lab.swap.stub import stub
    from cutaway.lab.swap.table import find

    empty = stub(find(PART)).partition("def ")
    say(f"`cutaway swap --stub {PART}` writes the file to fill in. It ends:\n")
    say(_indented(empty[1] + empty[2]))
    say("\nOne way to fill it in, which is not how ours goes:\n")
    say(_indented(inspect.getsource(example.attend)))
    try:
        with TemporaryDirectory() as folder:
            right = _verdict(Path(folder), "mine.py", example.written(), threads)
            say(f"\n{right}")
            say(f"\nWith one line changed, to `{example.BROKEN}`:\n")
            wrong = _verdict(Path(folder), "broken.py", example.broken(), threads)
            say(_indented(wrong))
            say(f"\nThe model with the right one in it:\n\n> {question}")
            answer = _answer(Path(folder) / "mine.py", model, threads, question)
    except (CutawayError, Ended) as error:
        say(f"Left out: {error}")
        return None
    return _section(example.written(), right, wrong, question, answer)


def _order(file: Path, threads: int, **more: Any) -> dict[str, Any]:
    return {"part": PART, "path": str(file), "function": "attend", "threads": threads, "seconds": 60.0, **more}


def _verdict(folder: Path, name: str, text: str, threads: int) -> str:
    from cutaway.cli.swap import judged, told

    file = folder / name
    file.write_text(text, encoding="utf-8")
    order = _order(file, threads, do="judge", timed=False)
    return "\n".join(told(judged(order, 4 * 2**30, watched=True)))


def _answer(file: Path, model: str, threads: int, question: str) -> Reading:
    from cutaway.cli.swap import talk
    from cutaway.infer.decoding import Decoding

    order = _order(file, threads, do="talk", model=model)
    return talk(order, 4 * 2**30, Decoding(max_tokens=TOKENS, temperature=0.0), question)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.rstrip().splitlines())


def _section(written: str, right: str, wrong: str, question: str, answer: Reading) -> Section:
    from cutaway.lab.page import Section

    body = "".join(
        f'<div class="panel"><p class="question">{escape(title)}</p><pre>{escape(text)}</pre></div>'
        for title, text in (("An attention by another hand", written), ("Judged", right), ("One line changed", wrong))
    )
    body += (
        f'<div class="panel"><p class="question">{escape(question)}</p><p class="answer">{escape(answer.text)}</p>'
        f'<p class="note">{escape(answer.usage)}</p></div>'
    )
    note = f"The model answered through it. `cutaway swap --stub {PART}` gives you the file to fill in."
    return Section(title="A part of your own in the model", body=body, note=note)
