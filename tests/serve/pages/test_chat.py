"""The page in a real Chromium: it writes, stops, shows alternatives, and asks no other host for anything."""

from __future__ import annotations

import os
import subprocess
import sys
from urllib.parse import urlsplit

import httpx
import pytest
from tests.serve.pages.browser import Browser, until

SERVER = """
import sys
from pathlib import Path
from cutaway.serve.app import application
from cutaway.serve.bounds import Bounds
from cutaway.serve.listening import address, listen
from cutaway.serve.pages.mount import mount
from cutaway.serve.roster import Roster
from cutaway.serve.run import serve
from tests.serve import small
language = small.language(Path(sys.argv[1]), length=16384, endless=True)  # who presses "Stop" finds it still writing
app = application(Roster([small.speaker(language, tokens=16384)]), Bounds(grace=0.0))
mount(app)
bound = listen("127.0.0.1", 0)
print(address(bound), flush=True)
serve(app, bound)
"""


@pytest.fixture(scope="module")
def url(root, tmp_path_factory):
    """A server with its page in a process of its own: NiceGUI is one to a process."""
    command = [sys.executable, "-W", "error", "-c", SERVER, str(tmp_path_factory.mktemp("tiny"))]
    told = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    with subprocess.Popen(command, cwd=root, env=told, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()
        assert process.wait(30) in (0, -15)


def test_the_api_stays_the_api_beside_the_page(url):
    assert httpx.get(url).headers["content-type"].startswith("text/html")
    wrong = httpx.get(f"{url}/v1/completions")
    assert (wrong.status_code, wrong.headers["allow"], "error" in wrong.json()) == (405, "POST", True)
    assert httpx.get(f"{url}/v1/nothing").json()["error"]["code"] == "not_found"
    assert httpx.get(f"{url}/health").json()["status"] == "ok"
    assert httpx.get(url, headers={"host": "elsewhere.example"}).status_code in (200, 403)


@pytest.mark.proof
def test_a_conversation_in_a_browser(url):
    browser = Browser()
    try:
        browser.open(url)
        browser.run("document.querySelector('[aria-label=\"Most tokens\"]').focus()")
        browser.tell("Input.insertText", text="00")  # 25600 where it stood at 256
        browser.type("Hello, 你好 <b>bold</b>")
        browser.until("document.querySelectorAll('.token').length > 5")
        browser.until("document.querySelector('[data-figure=running]').innerText === '1'")
        browser.click("document.querySelector('.write button')")
        browser.until("[...document.querySelectorAll('.under')].some(one => one.innerText.includes('stopped'))")
        assert browser.run("document.querySelector('.mine').innerText") == "Hello, 你好 <b>bold</b>"
        assert browser.run("document.querySelectorAll('.said b').length") == 0
        browser.until("document.querySelector('[data-figure=running]').innerText === '0'")
        browser.click("document.querySelector('.side .q-toggle')")
        browser.until("document.querySelector('.talk').classList.contains('probabilities')")
        browser.click("[...document.querySelectorAll('.token')].find(one => one.told)")
        rows = browser.until("document.querySelectorAll('#alternatives:not([hidden]) .alternative').length")
        assert rows in (6, 7)  # the likeliest, and what was drawn where it is none of them
        assert browser.run("document.querySelectorAll('#alternatives .chosen').length") >= 1
        browser.open(f"{url}/?lang=zh", width=420, height=800, dark=True)
        assert browser.run("document.body.classList.contains('body--dark')")
        assert browser.run("document.documentElement.lang") == "zh"
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")  # nothing is cut off
        browser.type("你好")
        browser.until("document.querySelectorAll('.token').length > 3")
        assert {urlsplit(one).hostname for one in browser.asked if not one.startswith("data:")} == {"127.0.0.1"}
        assert browser.errors == []
    finally:
        browser.close()
    # Whoever leaves stops what was being written for them.
    until(lambda: 'cutaway_running{model="tiny"} 0.0' in httpx.get(f"{url}/metrics").text)
