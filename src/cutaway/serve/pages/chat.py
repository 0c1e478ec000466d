"""The page at `/`: a conversation with a model, its tokens' probabilities, and the engine at work.

Answers come from the engine in this process, not over HTTP. A page of its own for each visitor: what is said stays in
it, and is gone with it; whoever leaves stops what was being written for them.
Read next: serve/pages/answering.py, serve/pages/figures.py, serve/pages/chat.js
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from cutaway.base.errors import CutawayError
from cutaway.serve.pages.answering import Answering, Settings, chats, prompt_of
from cutaway.serve.pages.figures import Figures
from cutaway.serve.roster import Speaker

# Shift-Enter breaks the line; an Enter that ends the spelling of a Chinese word does nothing (isComposing). What was
# typed before the page was connected is unknown here: the text comes along; an Enter before that leaves it where it is.
ENTER = """(event) => {
  if (event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (window.did_handshake) emit(event.target.value);
}"""
OFTEN = 0.08  # seconds between two looks at what was written
NUMBERS = {  # from, to, step
    "temperature": (0, 5, 0.1),
    "max_tokens": (1, None, 1),
    "top_k": (1, None, 1),
    "top_p": (0.01, 1, 0.01),
    "min_p": (0, 1, 0.01),
    "seed": (None, None, 1),
}


class Chat:
    """One visitor's page. `most`: tokens of an answer that the server allows."""

    def __init__(self, speakers: Sequence[Speaker], words: Mapping[str, str], most: int | None = None):
        self.speakers = {one.name: one for one in speakers}
        self.speaker, self.words, self.most = speakers[0], words, most
        self.messages: list[dict[str, str]] = []
        self.answering: Answering | None = None
        self._asking = False
        self._client = ui.context.client
        self._build()
        self._client.on_delete(self.stop)

    def _build(self) -> None:
        dark = ui.dark_mode(None)
        ui.colors(primary="#0b6e6e")
        side = f'width=310 breakpoint=900 aria-label="{self.words["settings"]}"'
        with ui.right_drawer(bottom_corner=True).classes("side").props(side) as drawer:
            self._settings(dark)
        with ui.header(elevated=False).classes("top items-center"):
            ui.label(self.words["title"]).classes("name")
            if len(self.speakers) > 1:
                ui.select(list(self.speakers), value=self.speaker.name, on_change=self._choose).props(
                    f'dense borderless aria-label="{self.words["model"]}"'
                )
            else:
                ui.label(self.speaker.name).classes("under q-ma-none")
            ui.space()
            self._button("add_comment", "new", self.clear)
            ui.button(self.words["other"], on_click=self._translate, color=None).props("flat dense no-caps")
            self._button("tune", "settings", drawer.toggle)
        with ui.element("main").classes("talk") as self.talk:
            self._greet()
        with ui.footer().classes("bottom"), ui.row(wrap=False).classes("write items-end"):
            look = f'autogrow outlined dense rows=1 input-style="max-height: 9em" aria-label="{self.words["ask"]}"'
            self.field = ui.textarea(placeholder=self.words["ask"]).props(look)
            self.field.on("keydown.enter", lambda event: self.send(event.args), js_handler=ENTER)
            self.button = ui.button(self.words["send"], on_click=self._press).props("unelevated no-caps")
        self._timer = ui.timer(OFTEN, self._look, active=False)

    def _button(self, icon: str, word: str, press: Any) -> None:
        said = self.words[word]
        look = f'flat round dense aria-label="{said}"'
        ui.button(icon=icon, on_click=press, color=None).props(look).tooltip(said)

    def _settings(self, dark: ui.dark_mode) -> None:
        ui.html(f"<h2>{self.words['engine']}</h2>", sanitize=False)
        self.figures = Figures(lambda: self.speaker.service.stats(), self.words)
        ui.html(f"<h2>{self.words['settings']}</h2>", sanitize=False)
        self.asked: dict[str, Any] = {
            "system": ui.textarea(self.words["system"]).props("outlined dense autogrow rows=1")
        }
        plain = vars(Settings())
        with ui.element("div").classes("pair"):
            for name, (least, most, step) in NUMBERS.items():
                limit = self.most if name == "max_tokens" else most
                value = min(plain[name], self.most or plain[name]) if name == "max_tokens" else plain[name]
                field = ui.number(self.words[name], value=value, min=least, max=limit, step=step)
                self.asked[name] = field.props("outlined dense")
        shown = ui.switch(self.words["probabilities"], value=False)
        shown.on_value_change(lambda event: self.talk.classes(toggle="probabilities"))
        kinds = {None: self.words["auto"], False: self.words["light"], True: self.words["dark"]}
        ui.toggle(kinds, value=None).props("no-caps dense unelevated spread").bind_value_to(dark)

    def _greet(self) -> None:
        with self.talk:
            ui.label(self.words["empty" if chats(self.speaker.service) else "base"]).classes("hint")

    def _choose(self, event: Any) -> None:
        self.speaker = self.speakers[event.value]
        self.clear()

    def _translate(self) -> None:
        ui.navigate.to(f"?lang={'en' if self.words['lang'] == 'zh' else 'zh'}")

    def clear(self) -> None:
        """Forgets the conversation."""
        self.stop()
        self.answering = None
        self._rest()
        self.messages.clear()
        self.talk.clear()
        self._greet()

    def stop(self) -> None:
        """Stops what is being written."""
        if self.answering is not None and self.answering.reason is None:
            self.answering.stop()

    async def _press(self) -> None:
        if self.answering is not None and self.answering.reason is None:
            self.stop()
        else:
            await self.send(self.field.value or "")

    async def send(self, text: str) -> None:
        """Asks the model."""
        text = text.strip()
        if not text or self._asking or (self.answering is not None and self.answering.reason is None):
            return
        asked, messages = self._read(), [*self.messages, {"role": "user", "content": text}]
        service, self._asking = self.speaker.service, True
        try:
            self.answering = await asyncio.to_thread(
                lambda: Answering(service, prompt_of(service, messages, asked.system), asked)
            )
        except CutawayError as error:
            with self._client:
                ui.notify(str(error), type="negative", multi_line=True)
            return
        finally:
            self._asking = False
        self.messages, self.field.value = messages, ""
        if len(messages) == 1:
            self.talk.clear()
        with self.talk:
            ui.label(text).classes("said mine")
            with ui.element("article").classes("theirs"):
                self.place = ui.element("div").classes("said")
                self.under = ui.label("").classes("under")
        self.button.text = self.words["stop"]
        self._timer.active = True
        self._client.run_javascript("setTimeout(cutaway.down, 30)")

    def _read(self) -> Settings:
        told = {name: field.value for name, field in self.asked.items()}
        return Settings(**{**told, "system": told["system"] or ""})

    def _look(self) -> None:
        """Shows what was written since the last look."""
        one = self.answering
        if one is None:
            return
        ended = one.reason  # before the tokens: none can come behind it
        tokens = one.take()
        if tokens:
            self._client.run_javascript(f"cutaway.add('{self.place.html_id}', {json.dumps(tokens)})")
        if ended is not None:
            self._end(one)

    def _end(self, one: Answering) -> None:
        if one.text:
            self.messages.append({"role": "assistant", "content": one.text})
        else:
            self.messages.pop()
        said = [self.words["usage"].format(count=one.count, seconds=one.seconds)]
        said += [self.words["cached"].format(cached=one.cached)] if one.cached else []
        said += [self.words[f"ended_{one.reason}"]] if one.reason != "stop" else []
        self.under.text = " · ".join(said)
        self._rest()

    def _rest(self) -> None:
        self._timer.active = False
        self.button.text = self.words["send"]
