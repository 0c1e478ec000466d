"""`cutaway serve` on the command line: what it says, what it refuses, and that it does so before it opens a model."""

from __future__ import annotations

import subprocess
import sys

import httpx
import pytest

import cutaway
from cutaway.base.errors import BadInput
from cutaway.cli.main import main
from cutaway.cli.serve import read_keys, refuse_twice, split
from cutaway.serve.listening import listen

from ..serve.small import language


def test_names_are_the_models_own_or_given(tmp_path):
    assert split("smollm2-135m") == ("smollm2-135m", "smollm2-135m")
    assert split(f"{tmp_path}/runs/mine") == ("mine", f"{tmp_path}/runs/mine")
    assert split("x/some.Q4_0.gguf") == ("some.Q4_0", "x/some.Q4_0.gguf")
    assert split("chat=x/some.gguf") == ("chat", "x/some.gguf")
    odd = tmp_path / "a=b"
    odd.mkdir()
    assert split(str(odd)) == ("a=b", str(odd))
    with pytest.raises(BadInput, match="two models are called mine"):
        refuse_twice([("mine", "a"), ("mine", "b")])


def test_keys_come_from_the_option_and_the_environment(monkeypatch):
    monkeypatch.setenv("CUTAWAY_API_KEY", "key-number-one, key-number-two")
    assert read_keys(["key-number-three"]) == ["key-number-three", "key-number-one", "key-number-two"]
    for wrong in ("short", "with a space", "非常非常非常长的钥匙"):
        with pytest.raises(BadInput, match="--api-key"):
            read_keys([wrong])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "b/a"], "two models are called a"),
        (["none", "--host", "192.0.2.1"], "no address of this machine"),
        (["none", "--port", "70000"], "65535"),
        (["none", "--together", "600"], "would leave nothing"),
        (["none", "--api-key", "x"], "at least 8"),
        ([], "Missing argument"),
    ],
)
def test_what_cannot_be_is_told_with_code_2(capsys, arguments, said):
    assert main(["serve", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_taken_port_is_told_before_any_model_is_looked_for(capsys):
    with listen("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        assert main(["serve", "no-such-model", "--port", str(port)]) == 2
    told = capsys.readouterr().err
    assert f"port {port} of 127.0.0.1 is taken" in told and len(told.splitlines()) == 1
    assert main(["serve", "no-such-model", "--port", "0"]) == 1
    assert "no-such-model" in capsys.readouterr().err


@pytest.mark.proof
def test_a_saved_folder_is_served(tmp_path):
    """What `cutaway.save` writes; told to end, it ends with 0 and says nothing more."""
    cutaway.save(language(tmp_path / "tokenizer"), tmp_path / "mine")
    command = [sys.executable, "-m", "cutaway", "serve", str(tmp_path / "mine"), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stderr is not None
        line = next(process.stderr)
        assert line.startswith("serving mine at http://127.0.0.1:")
        url = line.split(" at ")[1].strip()
        told = httpx.post(f"{url}/completions", json={"prompt": "hello", "max_tokens": 4, "temperature": 0}, timeout=60)
        alone = cutaway.load(tmp_path / "mine").generate("hello", max_tokens=4)
        assert told.json()["choices"][0]["text"] == alone.text
        process.terminate()
        rest = process.stderr.read()
    assert process.returncode == 0
    assert "Traceback" not in rest
