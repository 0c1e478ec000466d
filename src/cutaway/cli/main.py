"""The `cutaway` command: a table of commands, and one way to end for all of them.

Exit codes: 0 done; 1 something that was asked for is not there, or the system failed; 2 what was typed or handed in is
wrong; 130 stopped by Ctrl-C; 141 whoever read our output left.

Read next: cli/deferred.py
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer

from cutaway import __version__
from cutaway.base.errors import BadInput, CutawayError
from cutaway.cli import console, threads
from cutaway.cli.deferred import Deferred, Entry

COMMANDS = {
    "tour": Entry(
        module="cutaway.cli.tour", function="tour", help="See it all in a few minutes: open, ask, train a model."
    ),
    "chat": Entry(module="cutaway.cli.chat", function="chat", help="Talk with a model."),
    "open": Entry(module="cutaway.cli.open", function="open_model", help="Show every part of a model."),
    "explain": Entry(module="cutaway.cli.explain", function="explain", help="What a part is, and what it costs."),
    "generate": Entry(module="cutaway.cli.generate", function="generate", help="Continue a text."),
    "decode": Entry(
        module="cutaway.cli.decode", function="decode", help="Ways of choosing tokens, step by step, side by side."
    ),
    "logits": Entry(module="cutaway.cli.logits", function="logits", help="The likeliest next tokens after a text."),
    "data": Entry(module="cutaway.cli.data", function="app", help="Prepare a corpus to train on, and look at one."),
    "tokenize": Entry(
        module="cutaway.cli.tokenize", function="tokenize", help="Show a text in the pieces that a model reads."
    ),
    "tokenizer": Entry(module="cutaway.cli.tokenizer", function="app", help="Train a tokenizer."),
    "compare": Entry(
        module="cutaway.cli.compare.group", function="app", help="Put parts of one kind beside each other."
    ),
    "serve": Entry(
        module="cutaway.cli.serve", function="serve", help="Serve models to programs that speak OpenAI's API."
    ),
    "models": Entry(module="cutaway.cli.models", function="models", help="List the models known by a short name."),
    "get": Entry(module="cutaway.cli.get", function="get", help="Fetch a model into the cache."),
    "train": Entry(module="cutaway.cli.train", function="train", help="Train a model by a recipe, or continue a run."),
    "runs": Entry(module="cutaway.cli.runs", function="runs", help="List, compare and plot training runs."),
    "recipes": Entry(module="cutaway.cli.recipes", function="recipes", help="List the training runs known by a name."),
    "swap": Entry(module="cutaway.cli.swap", function="swap", help="Your own part in a real model, judged first."),
    "plan": Entry(module="cutaway.cli.plan", function="plan", help="What training a model takes on many devices."),
    "reproduce": Entry(
        module="cutaway.cli.reproduce", function="reproduce", help="A paper's number beside ours, computed here."
    ),
    "profile": Entry(module="cutaway.cli.profile", function="profile", help="Where a model's time goes, part by part."),
    "doctor": Entry(module="cutaway.cli.doctor", function="doctor", help="What this machine can do, measured."),
}

ABOUT = "The whole LLM stack, working, with the casing cut away."
app = typer.Typer(add_completion=False, rich_markup_mode=None, help=ABOUT)


def _show_version(value: bool) -> None:
    if value:
        sys.stdout.write(f"cutaway {__version__}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
def _start(
    context: typer.Context,
    shared_threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            min=1,
            max=threads.MOST,
            metavar="N",
            callback=threads.keep,
            help="Processor threads to use (also CUTAWAY_THREADS).",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


def command_line() -> Any:
    """The group of all commands, none of them imported."""
    group: Any = typer.main.get_command(app)
    # The same option again after the command, where people look for it; only its callback sees the value.
    shared = [parameter for parameter in typer.main.get_command(app).params if parameter.name == "shared_threads"]
    for parameter in shared:
        parameter.expose_value = False
    for name, entry in COMMANDS.items():
        group.add_command(Deferred(name, entry, shared))
    return group


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors made on purpose become one line on stderr."""
    console.prepare()
    if sys.stdout is None:  # closed by whoever started us (`>&-`)
        console.complain("there is no standard output to write to")
        return 1
    try:
        code = _run([_in_utf8(text) for text in (sys.argv[1:] if arguments is None else arguments)])
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        return _reader_left()
    except OSError as error:
        if error.errno == errno.EPIPE or (os.name == "nt" and error.errno == errno.EINVAL):
            return _reader_left()
        where = f"{error.filename}: " if error.filename else ""
        console.complain(f"{where}{error.strerror or error}")
        return 1


def _run(arguments: list[str]) -> int:
    try:
        group = command_line()
        # Not `group.main`, which has its own ideas of what a closed pipe and Ctrl-C should lead to.
        with group.make_context("cutaway", arguments) as context:
            group.invoke(context)
        return 0
    except typer.Exit as leaving:
        return leaving.exit_code
    except typer.TyperException as error:  # what typer itself finds wrong with the arguments
        console.complain(_usage(error))
        return 2
    except BadInput as error:
        console.complain(str(error))
        return 2
    except CutawayError as error:
        console.complain(str(error))
        return 1
    except (KeyboardInterrupt, typer.Abort):
        with suppress(OSError):
            sys.stderr.write("\n")
        return 130
    except MemoryError:
        console.complain("not enough memory")
        return 1


def _in_utf8(argument: str) -> str:
    """In a locale that is not UTF-8, Python smuggles an argument's bytes through as surrogates: read them as UTF-8."""
    try:
        return argument.encode("ascii", "surrogateescape").decode("utf-8")
    except UnicodeError:  # it was read well already, or is a path that is no text at all
        return argument


def _usage(error: typer.TyperException) -> str:
    """One line out of typer's message: what is wrong, what was probably meant, where help is."""
    message = error.format_message().strip().replace("Value error, ", "")  # which tells nothing
    options = getattr(error, "possibilities", None)
    if options:
        message = f"{error.message}. Did you mean {' or '.join(sorted(options))}?"
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "cutaway"
    return f"{message.removesuffix('.')}{'' if message.endswith('?') else '.'} See: {path} --help"


def _reader_left() -> int:
    # Nothing more can be written; what Python still holds for stdout must not raise again while it shuts down.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141


if __name__ == "__main__":
    sys.exit(main())
