from __future__ import annotations

import os
import subprocess
import sys
import types
from importlib import import_module

import pytest
import typer

from cutaway import __version__
from cutaway.base.errors import BadInput, MissingExtra, NotFound
from cutaway.cli import threads
from cutaway.cli.deferred import Deferred, Entry
from cutaway.cli.main import COMMANDS, command_line, main


@pytest.fixture
def probe(monkeypatch):
    """Adds a command `probe` that runs the function given to it."""

    def add(function):
        module = types.ModuleType("cutaway_probe")
        module.run = function
        monkeypatch.setitem(sys.modules, "cutaway_probe", module)
        monkeypatch.setitem(COMMANDS, "probe", Entry(module="cutaway_probe", function="run", help="A probe."))

    return add


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own; an empty value removes a variable."""
    merged = {name: value for name, value in {**os.environ, **environment}.items() if value}
    command = [sys.executable, "-m", "cutaway.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=merged, timeout=60)


def test_help_lists_every_command_whole_and_imports_none(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        assert main(arguments) == 0
        out = capsys.readouterr().out
        for name, entry in COMMANDS.items():
            assert f"  {name} " in out and entry.help in out
        assert "..." not in out.split("Commands:")[1], "a line of help was cut"


def test_help_and_models_leave_torch_and_rich_progress_alone():
    code = (
        "import sys; from cutaway.cli.main import main\n"
        "for arguments in (['--help'], ['models'], ['get', '--help']): assert main(arguments) == 0\n"
        "heavy = {'torch', 'numpy', 'jinja2', 'tokenizers', 'rich.progress'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_every_command_is_there():
    for name, entry in COMMANDS.items():
        assert callable(getattr(import_module(entry.module), entry.function)), name


def test_no_command_has_two_options_of_one_name():
    """An option's value is kept by its name: `--threads 1` once was the number of experts, too."""
    for name, command in command_line().commands.items():
        if not isinstance(command, Deferred):
            continue
        real = command.real()
        for one in getattr(real, "commands", {name: real}).values():
            names = [parameter.name for parameter in one.params]
            assert len(set(names)) == len(names), f"{name} {one.name}: {names}"


OPENING = ("chat", "generate", "decode", "logits", "open", "serve", "profile", "train", "swap", "tour")
TRAINED = ("positions", "norms", "activations", "experts")
COMPARING = (*TRAINED, "attention", "length", "precision", "exits")


def test_every_command_that_runs_a_model_lets_its_attention_be_chosen():
    commands = command_line().commands
    compared = commands["compare"].real().commands
    for one in (*(commands[name].real() for name in OPENING), *(compared[name] for name in COMPARING)):
        assert "--attend" in {option for parameter in one.params for option in parameter.opts}, one.name
    for name in ("chat", "generate", "logits", "serve", "profile"):
        params = commands[name].real().params
        assert "--activations" in {option for parameter in params for option in parameter.opts}, name


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cutaway {__version__}\n"


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["modls"], "error: No such command 'modls'. Did you mean 'models'? See: cutaway --help"),
        (["models", "--jsn"], "error: No such option: --jsn. Did you mean --json? See: cutaway models --help"),
        (["get"], "error: Missing argument 'NAME'. See: cutaway get --help"),
        (
            ["chat", "m", "--activations", "int4"],
            "error: Invalid value for '--activations': 'int4' is not one of 'float', 'int8'. See: cutaway chat --help",
        ),
        (["get", "a", "b"], "error: Got unexpected extra argument(s) (b). See: cutaway get --help"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(capsys, arguments, line):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.strip() == line


@pytest.mark.parametrize(
    "error, code, line",
    [
        (BadInput("is\nodd", source="a.gguf", field="size"), 2, "error: a.gguf: size: is odd"),
        (NotFound("no model [bold]x"), 1, "error: no model [bold]x"),
        (MissingExtra("fastapi", "serve"), 1, 'error: this needs the package fastapi: pip install "cutaway[serve]"'),
        (PermissionError(13, "Permission denied", "/a/b"), 1, "error: /a/b: Permission denied"),
        (MemoryError(), 1, "error: not enough memory"),
        (BadInput("\x1b[31mred"), 2, "error: [31mred"),
        (BadInput("很" * 200), 2, "error: " + "很" * 200),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(capsys, probe, error, code, line):
    def fail():
        raise error

    probe(fail)
    assert main(["probe"]) == code
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == line + "\n"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, typer.Abort])
def test_control_c_is_quiet_and_130(capsys, probe, stop):
    def fail():
        raise stop

    probe(fail)
    assert main(["probe"]) == 130
    assert capsys.readouterr().err.strip() == ""


def test_an_exit_code_of_a_command_is_kept(probe):
    def leave():
        raise typer.Exit(7)

    probe(leave)
    assert main(["probe"]) == 7


def test_a_mistake_of_ours_keeps_its_traceback(probe):
    probe(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["probe"])


@pytest.mark.parametrize(
    "arguments, environment, expected",
    [
        (["probe"], "", None),
        (["--threads", "3", "probe"], "", 3),
        (["probe", "--threads", "2"], "", 2),
        (["--threads", "3", "probe", "--threads", "2"], "", 2),
        (["probe"], "5", 5),
        (["--threads", "3", "probe"], "5", 3),
    ],
)
def test_threads_before_or_after_the_command_or_in_the_environment(
    probe, monkeypatch, arguments, environment, expected
):
    monkeypatch.setenv("CUTAWAY_THREADS", environment)
    seen = []

    def look(context: typer.Context):
        seen.append(threads.wanted(context))

    look.__annotations__["context"] = typer.Context
    probe(look)
    assert main(arguments) == 0 and seen == [expected]


def test_no_threads_and_odd_threads_are_refused(probe, monkeypatch, capsys):
    def look(context: typer.Context):
        threads.wanted(context)

    look.__annotations__["context"] = typer.Context
    probe(look)
    assert main(["probe", "--threads", "0"]) == 2
    assert "--threads" in capsys.readouterr().err
    monkeypatch.setenv("CUTAWAY_THREADS", "many")
    assert main(["probe"]) == 2
    assert capsys.readouterr().err == 'error: CUTAWAY_THREADS: "many" is not a number of threads (1 to 1024)\n'


# What follows runs the real command as a process.


@pytest.mark.skipif(os.name == "nt", reason="a closed pipe looks different on Windows, and there is no head")
def test_without_a_standard_output_there_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["models"]) == 1
    assert capsys.readouterr().err == "error: there is no standard output to write to\n"


def test_a_billion_threads_are_refused_before_the_system_ends_us(capsys):
    assert main(["--threads", "1000000000", "generate", "m", "x"]) == 2
    assert "1000000000" not in capsys.readouterr().out


def test_a_reader_that_leaves_is_no_error():
    code = "import sys; from cutaway.cli.main import main, COMMANDS\n" + (
        "import types; from cutaway.cli.deferred import Entry; from cutaway.cli.console import Column, show_table\n"
        "module = types.ModuleType('many')\n"
        "def run():\n"
        "    for _ in range(200): show_table((Column(title='x'),), [('y' * 999,)] * 9)\n"
        "module.run = run; sys.modules['many'] = module\n"
        "COMMANDS['many'] = Entry(module='many', function='run', help='')\n"
        "sys.exit(main(['many']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), errors) == (141, b"")


def test_output_is_utf8_in_a_locale_that_is_not():
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    answer = run("get", "模型", **plain)
    assert answer.returncode == 1 and answer.stderr.startswith('error: no model is called "模型"'), answer


def test_a_chosen_encoding_is_kept_and_never_fatal():
    answer = run("get", "模型", PYTHONIOENCODING="cp1252")
    assert answer.returncode == 1 and 'no model is called "??"' in answer.stderr


def test_no_colour_and_no_box_where_nobody_watches():
    answer = run("models")
    assert answer.returncode == 0 and "\x1b" not in answer.stdout and "─" not in answer.stdout
    assert not any(line != line.rstrip() for line in answer.stdout.splitlines())
