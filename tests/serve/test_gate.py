"""Who may come in, and that comparing keys tells nothing of them."""

from __future__ import annotations

import base64

import httpx
import openai
import pytest

from cutaway.serve import gate
from cutaway.serve.app import application
from cutaway.serve.gate import Gate, names
from cutaway.serve.roster import Roster
from cutaway.serve.run import Running

from .small import speaker

KEYS = ("first-key-123", "second-key-456")


@pytest.fixture(scope="module")
def locked(language):
    with Running(application(Roster([speaker(language)]), keys=KEYS, hosts=names("127.0.0.1"))) as running:
        yield running


def get(server, path="/v1/models", **headers):
    return httpx.get(server.url + path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_a_key_opens(locked):
    for key in KEYS:
        with openai.OpenAI(base_url=f"{locked.url}/v1", api_key=key) as client:
            assert [one.id for one in client.models.list()] == ["tiny"]
        basic = base64.b64encode(f"anybody:{key}".encode()).decode()
        assert get(locked, authorization=f"Basic {basic}").status_code == 200


WRONG = ["Bearer", "Bearer first-key-12", "Bearer first-key-1234", "Digest first-key-123", "first-key-123"]
WRONG += ["Basic first-key-123", "Basic !!!", "Basic " + base64.b64encode(b"first-key-123").decode()]


@pytest.mark.parametrize("told", [None, *WRONG])
def test_no_key_and_wrong_keys_do_not(locked, told):
    headers = {} if told is None else {"authorization": told}
    made = get(locked, **headers)
    assert made.status_code == 401
    assert made.json()["error"]["code"] == "invalid_api_key" and made.headers["www-authenticate"] == "Bearer"
    assert get(locked, "/metrics", **headers).status_code == 401
    assert get(locked, "/openapi.json", **headers).headers["www-authenticate"].startswith("Basic")
    assert get(locked, "/health", **headers).status_code == 200


def test_the_client_says_so(locked):
    with (
        openai.OpenAI(base_url=f"{locked.url}/v1", api_key="wrong") as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "a"}])


def test_keys_are_compared_whole_and_all_of_them(monkeypatch):
    """The comparison is the standard library's constant-time one, and no key is left out once one fits."""
    seen = []
    real = gate.hmac.compare_digest
    monkeypatch.setattr(gate.hmac, "compare_digest", lambda a, b: seen.append(b) or real(a, b))
    door = Gate(None, keys=KEYS)
    assert door._opens(f"Bearer {KEYS[0]}")
    assert seen == [key.encode() for key in KEYS]


def test_pages_of_other_sites_may_not(locked):
    key = f"Bearer {KEYS[0]}"
    for origin in ("http://evil.example", "null", "https://127.0.0.1:1", "http://["):
        refused = get(locked, origin=origin, authorization=key)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "wrong_origin")
    own = get(locked, origin=locked.url, authorization=key)
    assert own.status_code == 200
    assert not [name for name in own.headers if name.startswith("access-control")]
    asked = httpx.options(f"{locked.url}/v1/models", headers={"origin": "http://evil.example"})
    assert asked.status_code == 403


def test_a_name_that_leads_here_is_not_enough(locked):
    """DNS rebinding: the browser's Host header names the other site."""
    key = f"Bearer {KEYS[0]}"
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::2]:80"):
        refused = get(locked, host=host, authorization=key)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "wrong_host")
    for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"):
        assert get(locked, host=host, authorization=key).status_code == 200


def test_a_server_for_others_goes_by_any_name():
    assert names("0.0.0.0") is None and names("example.org") is None and names("::") is None
    assert names("127.0.0.1") == names("127.0.0.1") | {"localhost", "::1"}
    assert "127.0.0.2" in names("127.0.0.2")
