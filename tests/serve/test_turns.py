"""Requests in flight, the queue, bodies and the time: each has its bound, and whoever leaves is forgotten."""

from __future__ import annotations

import contextlib
import threading

import httpx
import openai
import pytest

from cutaway.serve.app import application
from cutaway.serve.bounds import Bounds
from cutaway.serve.roster import Roster
from cutaway.serve.run import Running
from cutaway.serve.turns import Turns

from .conversing import LONG, SHORT, asked, opened, still, wait_for
from .small import speaker


@pytest.fixture(scope="module")
def narrow(language):
    """One request at a time, one more may wait."""
    bounds = Bounds(running=1, waiting=1, body=2000, grace=0)
    with Running(application(Roster([speaker(language)]), bounds)) as running:
        yield running


def ended(server, status: int) -> float:
    """Completions that ended with that status."""
    told = {"path": "/v1/completions", "status": str(status)}
    return server.server.desk.metrics.registry.get_sample_value("cutaway_requests_total", told) or 0.0


@pytest.fixture
def turns(narrow):
    yield narrow.server.desk.turns
    wait_for(lambda: still(narrow) and not narrow.server.desk.turns.running)


def test_one_runs_one_waits_and_the_third_comes_later(narrow, turns):
    first = asked(narrow, LONG)
    wait_for(lambda: turns.running == 1)
    second = asked(narrow, SHORT)
    wait_for(lambda: turns.waiting == 1)
    with openai.OpenAI(base_url=f"{narrow.url}/v1", api_key="x", max_retries=0) as client:
        with pytest.raises(openai.RateLimitError) as refused:
            client.completions.create(**SHORT)
        assert refused.value.code == "queue_full"
        # One waits, none has ended, and the first has run for some seconds at most: so long it may take.
        assert 1 <= int(refused.value.response.headers["retry-after"]) <= 30
        turns.pace.wait, told = (lambda before: 10 + before), turns.pace.wait
        assert httpx.post(f"{narrow.url}/v1/completions", json=SHORT).headers["retry-after"] == "11"
        turns.pace.wait = told
        assert [one.id for one in client.models.list()] == ["tiny"]  # costs nothing and waits for nobody
    figures = httpx.get(f"{narrow.url}/metrics").text
    assert "cutaway_requests_running 1.0" in figures and "cutaway_requests_waiting 1.0" in figures
    assert 'cutaway_requests_total{path="/v1/completions",status="429"}' in figures
    first.close()  # its turn goes to the one that waits, whose answer comes
    assert second.recv(20).startswith(b"HTTP/1.1 200")
    second.close()


def test_a_server_that_ends_says_when_it_will_have_gone():
    turns = Turns(Bounds(grace=12.3), lambda *told: None)
    assert turns.later == 1
    turns.end()
    assert turns.later == 13


def test_whoever_leaves_the_queue_is_forgotten(narrow, turns):
    before = ended(narrow, 499)
    first = asked(narrow, LONG)
    wait_for(lambda: turns.running == 1)
    second = asked(narrow, LONG)
    wait_for(lambda: turns.waiting == 1)
    second.close()
    wait_for(lambda: turns.waiting == 0)
    wait_for(lambda: ended(narrow, 499) > before)  # it was told nothing, and nothing was done for it
    third = asked(narrow, SHORT)
    wait_for(lambda: turns.waiting == 1)
    first.close()
    assert third.recv(20).startswith(b"HTTP/1.1 200")
    third.close()


def test_the_real_client_comes_again_by_itself(narrow, turns):
    """What Retry-After is for: the client waits and asks again, and no error is seen."""
    before, first = ended(narrow, 429), asked(narrow, LONG)
    wait_for(lambda: turns.running == 1)
    second = asked(narrow, LONG)
    wait_for(lambda: turns.waiting == 1)
    done = []

    def ask():
        with openai.OpenAI(base_url=f"{narrow.url}/v1", api_key="x", max_retries=8) as client:
            done.append(client.completions.create(**SHORT))

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(lambda: ended(narrow, 429) > before)
    first.close()
    second.close()
    thread.join(60)
    assert done and done[0].usage.completion_tokens == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_engine(narrow, turns, stream):
    connection = asked(narrow, {**LONG, "stream": stream})
    wait_for(lambda: narrow.server.desk.roster.speakers[0].service.stats().running == 1)
    if stream:
        connection.recv(100)
    connection.close()
    wait_for(lambda: still(narrow) and not turns.running)
    narrow.server.desk.roster.speakers[0].service._engine.check()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_while_the_engine_lets_it_wait_is_forgotten(language, stream):
    """It has its turn, and the engine writes one answer at a time."""
    with Running(application(Roster([speaker(language, sequences=1)]), Bounds(grace=0))) as server:
        service = server.server.desk.roster.speakers[0].service
        first = asked(server, LONG)
        wait_for(lambda: service.stats().running == 1)
        second = asked(server, {**LONG, "prompt": "another", "stream": stream})
        wait_for(lambda: service.stats().waiting == 1)
        second.close()
        wait_for(lambda: service.stats().waiting == 0)
        assert (service.stats().running, len(service._tickets)) == (1, 1)
        first.close()
        wait_for(lambda: still(server) and not server.server.desk.turns.running)
        service._engine.check()


def test_large_bodies_are_refused_before_they_are_read(narrow, turns):
    told = httpx.post(f"{narrow.url}/v1/completions", json={**SHORT, "prompt": "a" * 2001})
    assert (told.status_code, told.json()["error"]["code"]) == (413, "body_too_large")
    with opened(narrow) as connection:  # a length alone is enough
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999999999999\r\n\r\n"
        )
        assert b" 4" in connection.recv(100)[:13]
    with opened(narrow) as connection:  # and so is more than there may be, piece by piece, without a length
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(3000):
                connection.sendall(b"400\r\n" + b"a" * 1024 + b"\r\n")
        with contextlib.suppress(ConnectionError):
            assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_that_stops_coming_takes_no_turn(narrow, turns):
    with opened(narrow) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nabc")
        told = httpx.post(f"{narrow.url}/v1/completions", json=SHORT)
        assert told.status_code == 200


@pytest.fixture(scope="module")
def hasty(language):
    with Running(application(Roster([speaker(language)]), Bounds(running=1, seconds=0.6, grace=0))) as running:
        yield running


def test_time_is_up_and_what_there_is_is_given(hasty):
    told = httpx.post(f"{hasty.url}/v1/completions", json=LONG, timeout=60).json()
    choice = told["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("length", "time")
    assert told["usage"]["completion_tokens"] < 1000
    with openai.OpenAI(base_url=f"{hasty.url}/v1", api_key="x", max_retries=0) as client:
        stream = client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "a"}],
            stream=True,
            max_tokens=900,
            extra_body={"banned": [[259]]},
        )
        assert [chunk.choices[0].finish_reason for chunk in stream][-1] == "length"
    wait_for(lambda: still(hasty))


def test_a_turn_that_does_not_come_and_a_body_that_does_not_are_told(hasty):
    first = asked(hasty, LONG)
    wait_for(lambda: hasty.server.desk.turns.running == 1)
    hasty.server.desk.turns.running += 1  # somebody who never goes
    told = httpx.post(f"{hasty.url}/v1/completions", json=SHORT, timeout=60)
    hasty.server.desk.turns.running -= 1
    assert (told.status_code, told.json()["error"]["code"]) == (503, "timeout")
    first.close()
    with opened(hasty) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nabc")
        assert connection.recv(100).startswith(b"HTTP/1.1 408")
