"""A headless Chromium, driven over its DevTools protocol: enough to open a page, look at it and type into it."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from simple_websocket import Client

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions")
FLAGS += (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)


class Browser:
    """One tab. `asked`: the address of everything that it loaded; `errors`: what its console complained of."""

    def __init__(self) -> None:
        found = shutil.which("chromium") or shutil.which("google-chrome")
        if found is None:
            pytest.skip("there is no Chromium here")
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [found, *FLAGS, f"--user-data-dir={self._folder.name}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        said = Path(self._folder.name) / "DevToolsActivePort"
        until(lambda: said.exists() and said.read_text(encoding="utf-8").count("\n") >= 1)
        port = said.read_text(encoding="utf-8").split("\n")[0]
        tabs = until(
            lambda: [one for one in httpx.get(f"http://127.0.0.1:{port}/json").json() if one["type"] == "page"]
        )
        self._socket = Client(tabs[0]["webSocketDebuggerUrl"])
        self._numbers = itertools.count(1)
        self.asked: list[str] = []
        self.errors: list[str] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.tell(f"{domain}.enable")

    def tell(self, method: str, **told: Any) -> dict[str, Any]:
        """A command and its answer."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": told}))
        while True:
            heard = json.loads(self._socket.receive(timeout=60) or "{}")
            if heard.get("id") == number:
                assert "error" not in heard, heard
                return heard["result"]
            self._hear(heard.get("method"), heard.get("params", {}))

    def _hear(self, method: str | None, told: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.asked.append(told["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(told["exceptionDetails"])[:500])
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(told["entry"]["text"] + " " + told["entry"].get("url", ""))

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        told = self.tell("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def open(self, url: str, *, width: int = 1200, height: int = 900, dark: bool = False, language: str = "en") -> None:
        """Goes there, in a window of that size."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.tell("Emulation.setEmulatedMedia", features=scheme)
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.tell("Network.setExtraHTTPHeaders", headers={"Accept-Language": language})
        self.tell("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && !!document.querySelector('textarea') && did_handshake")

    def until(self, script: str, seconds: float = 60) -> Any:
        """Waits until an expression is true."""
        return until(lambda: self.run(script), seconds, script)

    def type(self, text: str) -> None:
        """Types a line into the field at the bottom and sends it."""
        self.run("document.querySelector('.write textarea').focus()")
        self.tell("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self.tell("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13)

    def click(self, script: str) -> None:
        """Clicks at the middle of the element that an expression gives."""
        middle = "const r = it.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]"
        box = self.run(f"((it) => {{ {middle} }})({script})")
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            count = 0 if kind == "mouseMoved" else 1
            button = "none" if kind == "mouseMoved" else "left"
            self.tell("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button=button, clickCount=count)

    def picture(self, path: Path) -> None:
        """What is to be seen, as a PNG file."""
        path.write_bytes(base64.b64decode(self.tell("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(timeout=30)
        self._folder.cleanup()


def until(look: Any, seconds: float = 60, what: str = "what was waited for") -> Any:
    """The first true thing that `look` gives."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come in {seconds} seconds")
