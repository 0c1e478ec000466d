"""Puts the pages on the server's own application: NiceGUI's assets come with its package, no other host is asked.

NiceGUI answers every path that no route takes. What is below /v1/ or is taken with another method stays the API's, and
is refused in its way.
Read next: serve/pages/chat.py, serve/app.py
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.routing import Match  # pyright: ignore[reportPrivateImportUsage]
from nicegui import ui

from cutaway.serve.asgi import ASGIApp, Receive, Scope, Send
from cutaway.serve.desk import Desk
from cutaway.serve.faults import Fault, told
from cutaway.serve.pages.chat import Chat
from cutaway.serve.pages.words import words

HERE = Path(__file__).parent
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="16" cy="16" r="14" fill="#0b6e6e"/>'
    '<path d="M16 16V2a14 14 0 0 1 14 14z" fill="#f7f6f3"/></svg>'
)


def mount(app: FastAPI) -> None:
    """The page at `/` of an application that `serve.app.application` made."""
    desk: Desk = app.state.desk
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("chat.css", "chat.js"))

    @ui.page("/", title="Cutaway", favicon=ICON)
    def chat(request: Request, lang: str | None = None) -> None:
        known = words(lang, request.headers.get("accept-language"))
        ui.add_css(style)
        ui.add_body_html(f"<script>{script}</script>")
        ui.add_head_html(f'<script>document.documentElement.lang = "{known["lang"]}"</script>')
        speakers = desk.roster.speakers
        if speakers:
            Chat(speakers, known, desk.bounds.output)
        else:
            ui.label(known["away"])

    ui.run_with(app, title="Cutaway", favicon=ICON, tailwind=False, show_welcome_message=False)
    pages = app.routes[-1]
    pages.app = _behind(app, pages.app)  # type: ignore[attr-defined]
    app.router.lifespan_context = _quiet(app.router.lifespan_context)


def _behind(app: FastAPI, pages: ASGIApp) -> ASGIApp:
    """The pages, without what is the API's."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        fault = _wrong(app, scope) if scope["type"] == "http" else None
        if fault is not None:
            await told(fault)(scope, receive, send)
        else:
            await pages(scope, receive, send)

    return answered


def _wrong(app: FastAPI, scope: Scope) -> Fault | None:
    routes = [route for route in app.routes[:-1] if route.matches(scope)[0] is Match.PARTIAL]
    methods = [
        one for one in ("GET", "POST") for route in routes if route.matches({**scope, "method": one})[0] is Match.FULL
    ]
    if methods:
        return Fault(405, "no such method here", headers={"allow": ", ".join(methods)})
    return Fault(404, "there is nothing here", code="not_found") if scope["path"].startswith("/v1") else None


def _quiet(lifespan: Callable[..., Any]) -> Callable[..., Any]:
    """As it begins, NiceGUI looks at every object in memory for its server, and wakes warnings of torch's old names."""

    @asynccontextmanager
    async def quiet(app: FastAPI) -> AsyncIterator[Any]:
        context = lifespan(app)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            state = await context.__aenter__()
        try:
            yield state
        finally:
            await context.__aexit__(None, None, None)

    return quiet
