"""A server that is told to end lets what runs finish, or returns what there is; a new one starts at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

from cutaway.base.errors import CutawayError
from cutaway.infer.ask import Ask
from cutaway.serve.app import application
from cutaway.serve.bounds import Bounds
from cutaway.serve.roster import Roster
from cutaway.serve.run import Running

from .conversing import LONG, wait_for
from .small import speaker


def during(server, body):
    """Starts a request in a thread and waits until it runs; the list that its reply comes into."""
    replies = []

    def ask():
        replies.append(httpx.post(f"{server.url}/v1/completions", json=body, timeout=120))

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(lambda: server.server.desk.roster.speakers[0].service.stats().running)
    return thread, replies


def test_what_runs_may_finish(language):
    with Running(application(Roster([speaker(language)]), Bounds(grace=100))) as server:
        thread, replies = during(server, {**LONG, "max_tokens": 60})
    thread.join()
    assert replies[0].status_code == 200
    assert replies[0].json()["usage"]["completion_tokens"] == 60


def test_what_cannot_finish_is_returned_as_far_as_it_is(language):
    with Running(application(Roster([speaker(language)]), Bounds(grace=0.2, running=1))) as server:
        thread, replies = during(server, LONG)
        waiting = []
        second = threading.Thread(
            target=lambda: waiting.append(httpx.post(f"{server.url}/v1/completions", json=LONG, timeout=60))
        )
        second.start()
        wait_for(lambda: server.server.desk.turns.waiting)
    thread.join()
    second.join()
    choice = replies[0].json()["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("length", "shutdown")
    assert 0 < replies[0].json()["usage"]["completion_tokens"] < 1000
    assert (waiting[0].status_code, waiting[0].headers["retry-after"]) == (503, "1")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health")
    with pytest.raises(CutawayError):
        server.server.desk.roster.speakers[0].service.ask(Ask(prompt=(1,)), print)


def test_a_port_is_free_again_at_once(language):
    with Running(application(Roster([speaker(language)]), Bounds(grace=0))) as server:
        assert httpx.get(f"{server.url}/health").json()["status"] == "ok"
        port = server.bound_to[1]
    with Running(application(Roster([speaker(language)]), Bounds(grace=0)), port=port) as server:
        assert httpx.get(f"{server.url}/health").status_code == 200


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.serve.small import language, speaker
from cutaway.serve.app import application
from cutaway.serve.bounds import Bounds
from cutaway.serve.listening import address, listen
from cutaway.serve.roster import Roster
from cutaway.serve.run import serve
bound = listen("127.0.0.1", int(sys.argv[3]))
app = application(Roster([speaker(language(Path(sys.argv[2])))]), Bounds(grace=0.3))
print(address(bound), flush=True)
sys.exit(serve(app, bound))
"""


class Process:
    """A server in a process of its own, to be sent signals."""

    def __init__(self, root, folder, port=0):
        command = [sys.executable, "-c", SCRIPT, str(root), str(folder), str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *told):
        self.process.kill()
        self.process.communicate()

    def end(self, number):
        self.process.send_signal(number)
        said = self.process.communicate(timeout=60)[1]
        return self.process.returncode, said


def files(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.proof  # three processes that each import torch
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signals")
def test_signals_end_it_and_a_kill_leaves_nothing_broken(root, tmp_path):
    """One process after the other on one port: killed in the middle of an answer, then told to end, then Ctrl-C."""
    before, whole = {}, {**LONG, "max_tokens": 8}
    with Process(root, tmp_path / "tiny") as first:
        before = files(tmp_path)
        port = int(first.url.rpartition(":")[2])
        expected = httpx.post(f"{first.url}/v1/completions", json=whole, timeout=60).json()["choices"][0]["text"]
        with httpx.stream("POST", f"{first.url}/v1/completions", json={**LONG, "stream": True}, timeout=60) as stream:
            next(stream.iter_bytes())
            assert first.end(signal.SIGKILL)[0] == -signal.SIGKILL
    assert files(tmp_path) == before
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        with Process(root, tmp_path / "tiny", port) as server:
            made = httpx.post(f"{server.url}/v1/completions", json=whole, timeout=60).json()
            assert made["choices"][0]["text"] == expected
            asked = {**LONG, "stream": True}
            with httpx.stream("POST", f"{server.url}/v1/completions", json=asked, timeout=60) as stream:
                lines = (line for line in stream.iter_lines() if line.startswith("data: {"))
                next(lines)
                start = time.monotonic()
                server.process.send_signal(number)
                last = json.loads([line.removeprefix("data: ") for line in lines][-1])
            said = server.process.communicate(timeout=60)[1]
            assert (server.process.returncode, said) == (code, "")
            assert last["choices"][0].get("stop_reason") == "shutdown", last
            assert time.monotonic() - start < 30
