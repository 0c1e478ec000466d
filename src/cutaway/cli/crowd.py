"""A stop of the tour: a server on this machine, first asked by one, then by eight at once.

Read next: cli/serve.py, infer/service.py
"""

from __future__ import annotations

import importlib.util
import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html import escape
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any

from cutaway.base.errors import CutawayError
from cutaway.cli.console import Column, show_table

if TYPE_CHECKING:
    from cutaway.infer.language import Language
    from cutaway.infer.service import Service
    from cutaway.lab.page import Section

NEEDED = ("fastapi", "uvicorn", "pydantic", "prometheus_client")
SYSTEM = (
    "You are a guide in a museum of machines. Visitors of all ages ask you about the world, about numbers and about "
    "words. You answer each of them in one short, true and friendly sentence, and you never ask anything back."
)
QUESTIONS = (
    "What is the capital of France?",
    "How many legs does a spider have?",
    "What colour is the sky?",
    "What is two plus two?",
    "Who wrote Hamlet?",
    "What do bees make?",
    "Which planet do we live on?",
    "What is frozen water called?",
    "天空是什么颜色的？",
)
TOKENS = 24  # of an answer
SECONDS = 12.0  # after which the server gives what there is
LOOK = 0.02  # seconds between two looks at the engine
HEAD = ("requests", "tokens", "seconds", "tokens/s", "pages at most", "of them shared", "prefix hits", "tokens found")


@dataclass(frozen=True, kw_only=True)
class Round:
    """What a number of requests at once came to; pages as they stood at most, hits and tokens found as they grew."""

    answers: tuple[str, ...]
    tokens: int
    seconds: float
    pages: int
    shared: int
    hits: int
    found: int

    @property
    def cells(self) -> tuple[str, ...]:
        rate = self.tokens / self.seconds
        numbers = (self.pages, self.shared, self.hits, self.found)
        return (str(len(self.answers)), str(self.tokens), f"{self.seconds:.1f}", f"{rate:.0f}", *map(str, numbers))


def crowd(language: Language, say: Callable[[str], None]) -> Section | None:
    """Serves the model and asks it over HTTP; None, with a remark, where that cannot be."""
    missing = next((name for name in NEEDED if importlib.util.find_spec(name) is None), None)
    if missing is not None:
        say(f"Left out: {missing} is not installed. `pip install cutaway[serve]` brings what a server needs.")
        return None
    try:
        url, rounds = _served(language, say)
    except (CutawayError, OSError, HTTPException) as error:
        say(f"Left out: {error}")
        return None
    show_table([Column(title=title, align="right") for title in HEAD], [one.cells for one in rounds])
    alone, together = (one.tokens / one.seconds for one in rounds)
    text = (
        f"One step of the model writes a token of every answer, so {len(rounds[1].answers)} at once come "
        f"{together / alone:.1f} times as fast as one. All prompts begin alike: that beginning is read once, and its "
        "pages are shared."
    )
    say("\n" + text)
    return _section(url, text, rounds)


def _served(language: Language, say: Callable[[str], None]) -> tuple[str, list[Round]]:
    from cutaway.infer.scheduler import Limits
    from cutaway.infer.service import Service
    from cutaway.serve.app import application
    from cutaway.serve.bounds import Bounds
    from cutaway.serve.roster import Roster, Speaker
    from cutaway.serve.run import Running

    service = Service(language, limits=Limits(tokens=4096, sequences=16), model="tour")
    with Running(application(Roster([Speaker("tour", service)]), Bounds(seconds=SECONDS, grace=0.0))) as server:
        say(f"A server at {server.url}/v1, which any program that speaks OpenAI's API can use:\n")
        first, *others = QUESTIONS
        return server.url, [asked(server.bound_to, service, some) for some in ([first], others)]


def asked(place: tuple[str, int], service: Service, questions: Sequence[str]) -> Round:
    """All questions at once, each over a connection of its own."""
    before, most, shared = service.stats(), 0, 0
    done = threading.Event()

    def look() -> None:
        nonlocal most, shared
        while not done.wait(LOOK):
            now = service.stats()
            most, shared = max(most, now.pages_held), max(shared, now.pages_shared)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    start = time.perf_counter()
    try:
        with ThreadPoolExecutor(len(questions)) as threads:
            answers = tuple(threads.map(lambda question: ask(place, question), questions))
        seconds = time.perf_counter() - start
    finally:
        done.set()
        looking.join()
    after = service.stats()
    return Round(
        answers=answers,
        tokens=after.written_tokens - before.written_tokens,
        seconds=seconds,
        pages=most,
        shared=shared,
        hits=after.prefix_hits - before.prefix_hits,
        found=after.prefix_tokens - before.prefix_tokens,
    )


def ask(place: tuple[str, int], question: str) -> str:
    """One request as any client would send it; the answer's text. Raises CutawayError for what is none."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    body = json.dumps({"model": "tour", "messages": messages, "max_tokens": TOKENS, "temperature": 0})
    connection = HTTPConnection(*place, timeout=2 * SECONDS)
    try:
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        told: dict[str, Any] = json.loads(answer.read())
    finally:
        connection.close()
    if answer.status != 200:
        raise CutawayError(f"the server answered {answer.status}: {told.get('error', {}).get('message', '')}")
    return told["choices"][0]["message"]["content"] or ""


def _section(url: str, text: str, rounds: Sequence[Round]) -> Section:
    from cutaway.lab.page import Section

    titles = "".join(f"<th>{escape(title)}</th>" for title in HEAD)
    rows = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in one.cells) + "</tr>" for one in rounds)
    said = "".join(
        f'<p class="question">{escape(question)}</p><p class="answer">{escape(answer)}</p>'
        for question, answer in zip(QUESTIONS, [answer for one in rounds for answer in one.answers], strict=True)
    )
    body = (
        f'<p>{escape(text)}</p><div class="panel"><table><tr>{titles}</tr>{rows}</table></div>'
        f'<div class="panel">{said}</div>'
    )
    note = f"Served at {url.partition('://')[2]} while the tour ran. `cutaway serve` does it until Ctrl-C."
    return Section(title="Serve it: one who asks, then eight at once", body=body, note=note)
