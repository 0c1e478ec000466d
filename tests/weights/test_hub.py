from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": bytes(100),
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "pytorch_model.bin": b"never asked for",
    "onnx/model.safetensors": b"never asked for",
    "consolidated.safetensors": b"never asked for",
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as one repository needs."""

    asked: list[str] = []  # noqa: RUF012

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        if path.startswith("/api/models/owner/tiny/revision/"):
            told = {"id": "owner/tiny", "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}
            return self.send(200, json.dumps(told).encode(), body)
        if path.startswith(f"/api/models/owner/tiny/tree/{COMMIT}"):
            told = [{"type": "file", "path": name, "size": len(FILES[name]), "oid": COMMIT} for name in FILES]
            return self.send(200, json.dumps(told).encode(), body)
        name = path.removeprefix(f"/owner/tiny/resolve/{COMMIT}/")
        if name in FILES:
            return self.send(200, FILES[name], body)
        return self.send(404, b"", body, {"X-Error-Code": "RepoNotFound"})

    def send(self, status: int, content: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        told = {"Content-Length": str(len(content)), "X-Repo-Commit": COMMIT, "ETag": f'"{hash(content) & 0xFFFF:x}"'}
        for name, value in (told | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetch(home: Path, repo_id: str, **settings: str) -> str:
    """Runs in a process of its own: the hub's library reads its settings once, when it is imported."""
    code = (
        "import sys\n"
        "from cutaway.base.errors import NotFound\n"
        "from cutaway.weights.hub import fetch\n"
        "assert 'huggingface_hub' not in sys.modules\n"
        "try:\n    print(fetch(sys.argv[1]))\n"
        "except NotFound as error:\n    print('NotFound:', error)\n"
    )
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("HF_") and "proxy" not in name.lower()
    }
    told = {**kept, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1", **settings}
    done = subprocess.run(
        [sys.executable, "-c", code, repo_id], env=told, capture_output=True, text=True, encoding="utf-8", timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_repository_is_fetched_from_the_endpoint_then_from_the_cache(endpoint, tmp_path):
    folder = Path(fetch(tmp_path, "owner/tiny", HF_ENDPOINT=endpoint))
    assert {file.name for file in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
    }
    assert (folder / "config.json").read_bytes() == FILES["config.json"]

    Hub.asked.clear()
    assert fetch(tmp_path, "owner/tiny", HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="1") == str(folder)
    assert not Hub.asked, "offline means offline"


def test_what_is_not_there_is_one_line(endpoint, tmp_path):
    unknown = fetch(tmp_path, "owner/unknown", HF_ENDPOINT=endpoint)
    offline = fetch(tmp_path, "owner/other", HF_HUB_OFFLINE="1")
    unreachable = fetch(tmp_path, "owner/other", HF_ENDPOINT="http://127.0.0.1:1")
    assert (
        unknown == "NotFound: owner/unknown cannot be had from the hub: there is no such repository, or it is private"
    )
    for told in (offline, unreachable):
        assert told.startswith("NotFound: owner/other cannot be had from the hub: ") and "\n" not in told
    assert "HF_HUB_OFFLINE" in offline


def test_no_repository_id(tmp_path):
    assert "no repository id" in fetch(tmp_path, "not//an id", HF_HUB_OFFLINE="1")
