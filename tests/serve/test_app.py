"""Routes that everybody may ask, bodies that are none, and a thousand made from the schema: never an error of ours."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import httpx
import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from cutaway.serve.app import application
from cutaway.serve.bounds import Bounds
from cutaway.serve.roster import Roster
from cutaway.serve.run import Running

from .conversing import LONG, still, wait_for
from .small import speaker


def test_models_are_listed_and_found(client):
    assert [one.id for one in client.models.list()] == ["tiny", "vectors"]
    assert client.models.retrieve("tiny").object == "model"
    for name in ("none", "../tiny", "tiny/x"):
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(name)
    with pytest.raises(openai.NotFoundError) as refused:
        client.completions.create(model="/etc/passwd", prompt="a")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


def test_the_only_model_of_its_kind_need_not_be_named(server):
    told = httpx.post(f"{server.url}/v1/completions", json={"prompt": "a", "max_tokens": 1})
    assert told.json()["model"] == "tiny"


def test_health_and_figures(server, client, tiny):
    assert httpx.get(f"{server.url}/health").json() == {"status": "ok", "models": ["tiny", "vectors"]}
    client.completions.create(model="tiny", prompt="figures", max_tokens=3)
    told = httpx.get(f"{server.url}/metrics")
    assert told.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = dict(line.rsplit(" ", 1) for line in told.text.splitlines() if not line.startswith("#"))
    stats = tiny.service.stats()
    assert float(lines['cutaway_written_tokens_total{model="tiny"}']) == stats.written_tokens > 0
    assert float(lines['cutaway_pages{model="tiny"}']) == stats.pages
    assert float(lines['cutaway_requests_total{path="/v1/completions",status="200"}']) >= 1
    assert float(lines['cutaway_first_token_seconds_count{model="tiny"}']) >= 1
    assert float(lines["cutaway_requests_running"]) == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/none", 404), ("GET", "/v1/completions", 405), ("POST", "/v1/models", 405), ("GET", "/docs", 404)],
)
def test_other_paths_and_methods_are_told_in_the_same_shape(server, method, path, status):
    told = httpx.request(method, server.url + path)
    assert told.status_code == status
    assert set(told.json()["error"]) == {"message", "type", "param", "code"}


DEEP = b"[" * 5000 + b"]" * 5000
BODIES = [b"", b"{", b"null", b"[]", b'"a"', b"\xff\xfe", b"{} {}", b'{"prompt": "a", "prompt": 1}', DEEP]
BODIES += [
    b'{"prompt": NaN}',
    b'{"prompt": ' + b"9" * 5000 + b"}",
    b'{"prompt": "\\ud800"}',
    b'{"prompt": [' + DEEP + b"]}",
]
BODIES += [b'{"prompt": "a", "temperature": Infinity}', b'{"prompt": "a", "\\ud800": 1}', b'{"prompt": "a", "n": true}']
BODIES += [
    b'{"prompt": "a", "logit_bias": {"\\ud800": 1}}',
    b'{"prompt": "a", "seed": 1e400}',
    b'{"prompt": "a", "n": 1.5}',
]
BODIES += [b'{"prompt": "a", "model": "\\ud800\\u0000"}', b'{"prompt": "a", "stop": ["\\ud800"], "max_tokens": "1"}']


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_what_is_no_request_is_told_so(server, body):
    told = httpx.post(f"{server.url}/v1/completions", content=body, headers={"content-type": "application/json"})
    assert told.status_code in (400, 404), told.text
    assert told.json()["error"]["message"]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "\ud800"}],
        [{"role": "\ud800", "content": "a"}],
        [{"role": "assistant", "tool_calls": [{"function": "x"}]}],
        [{"role": "assistant", "tool_calls": [{"function": {"name": "x", "arguments": "[[[" * 2000}}]}],
        [{"role": "assistant", "tool_calls": []}],
        [{"role": "user", "content": "a", "x": json.loads("[" * 200 + "]" * 200)}],
        [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "user", "content": [{}]}],
    ],
    ids=range(8),
)
def test_what_is_no_conversation_is_told_so(server, messages):
    data = json.dumps({"messages": messages, "max_tokens": 1}).encode()
    told = httpx.post(f"{server.url}/v1/chat/completions", content=data, headers={"content-type": "application/json"})
    assert told.status_code in (200, 400) and (told.status_code == 400 or messages[0].get("tool_calls")), told.text


def test_forms_and_plain_texts_are_no_requests(server):
    """What a page of another site could send without being asked."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        body = json.dumps({"prompt": "a", "max_tokens": 1})
        told = httpx.post(f"{server.url}/v1/completions", content=body, headers={"content-type": kind})
        assert told.status_code == 400


def test_a_failure_of_ours_tells_nothing_of_us(language, caplog):
    app = application(Roster([speaker(language)]), Bounds(grace=0))
    with Running(app, log="critical") as running:
        running.server.desk.roster.speakers[0].service.ask = lambda *told: 1 / 0
        told = httpx.post(f"{running.url}/v1/completions", json={"prompt": "a"})
        del running.server.desk.roster.speakers[0].service.ask
    assert told.status_code == 500
    assert told.json()["error"] == {
        "message": "the server failed; its log says why",
        "type": "server_error",
        "param": None,
        "code": None,
    }


def test_a_model_that_fails_is_told_as_failed(language, tmp_path):
    import torch

    from .small import language as fresh

    broken = fresh(tmp_path / "broken")
    one = speaker(broken)
    with torch.no_grad():
        broken.module.norm.weight.fill_(float("nan"))
    with Running(application(Roster([one]), Bounds(grace=0))) as running:
        told = httpx.post(f"{running.url}/v1/completions", json={"prompt": "a"})
        assert told.status_code == 500 and "the model failed" in told.json()["error"]["message"]
        stream = httpx.post(f"{running.url}/v1/completions", json={"prompt": "a", "stream": True}).text
        assert '"type":"server_error"' in stream and stream.endswith("data: [DONE]\n\n")


OPENED = []
sys.addaudithook(lambda event, told: OPENED.append(told[0]) if event == "open" else None)


def test_nothing_of_a_request_reaches_the_file_system(server):
    """Python tells of every file that is opened; none of them has a name out of a request."""
    mark, since = "mark-7f3a", len(OPENED)
    texts = [f"/tmp/{mark}", f"file:///{mark}", f"../../{mark}"]
    for text in texts:
        part = {"type": "image_url", "image_url": {"url": text}}
        asked = {"messages": [{"role": text, "content": text}], "model": text, "user": text, "max_tokens": 1}
        httpx.post(f"{server.url}/v1/chat/completions", json=asked)
        httpx.post(f"{server.url}/v1/chat/completions", json={**asked, "model": "tiny", "stop": text})
        httpx.post(
            f"{server.url}/v1/chat/completions", json={**asked, "messages": [{"role": "user", "content": [part]}]}
        )
        httpx.post(f"{server.url}/v1/completions", json={"model": "tiny", "prompt": text, "max_tokens": 1})
        httpx.post(f"{server.url}/v1/embeddings", json={"model": "vectors", "input": text})
        httpx.get(f"{server.url}/v1/models/{text}")
        httpx.get(f"{server.url}/{text}")
    assert not [name for name in OPENED[since:] if mark in str(name)]
    Path(__file__).read_bytes()
    assert any(str(name) == __file__ for name in OPENED[since:])  # the hook hears


def made_from_schema(url, examples):
    """Asks what schemathesis makes of the schema: requests that fit it, and some that do not. The statuses seen."""
    seen = set()
    for found in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():
        operation = found.ok()
        for mode in GenerationMode:

            @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case):
                told = case.call_and_validate(checks=[not_a_server_error], timeout=60)
                seen.add((case.method, told.status_code))

            with contextlib.suppress(Unsatisfiable):  # nothing can be wrong about a request without parameters
                ask()
    return seen


@pytest.fixture(scope="module")
def bounded(language):
    """Short answers, so that many can be asked for."""
    bounds = Bounds(samples=2, prompts=4, output=3, grace=0)
    with Running(application(Roster([speaker(language)]), bounds)) as running:
        yield running


def test_no_request_of_the_schema_ends_in_an_error_of_ours(bounded):
    seen = made_from_schema(bounded.url, 3)
    assert ("POST", 200) in seen and ("POST", 400) in seen
    wait_for(lambda: still(bounded))
    bounded.server.desk.roster.speakers[0].service._engine.check()


@pytest.mark.proof
def test_no_request_of_hundreds_ends_in_an_error_of_ours(bounded):
    seen = made_from_schema(bounded.url, 250)
    assert ("POST", 200) in seen and ("POST", 400) in seen
    wait_for(lambda: still(bounded))
    bounded.server.desk.roster.speakers[0].service._engine.check()


def test_the_schema_tells_errors_as_they_are(server):
    schema = httpx.get(f"{server.url}/openapi.json").json()
    assert {"/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/v1/models", "/health"} <= set(
        schema["paths"]
    )
    replies = schema["paths"]["/v1/chat/completions"]["post"]["responses"]
    assert {"200", "400", "401", "413", "429", "503"} <= set(replies) and "422" not in replies
    asked = schema["components"]["schemas"]["ChatBody"]["properties"]
    assert {"messages", "tools", "response_format", "top_k", "min_p", "guided_regex"} <= set(asked)
    assert "Swagger" not in httpx.get(f"{server.url}/").text


def test_a_request_that_ends_leaves_nothing(server):
    with httpx.stream("POST", f"{server.url}/v1/completions", json={**LONG, "stream": True}) as stream:
        next(stream.iter_bytes())
    wait_for(lambda: still(server))
    held = server.server.desk.roster.speakers[0].service
    held._engine.check()
    assert not held._tickets and not held._coming
