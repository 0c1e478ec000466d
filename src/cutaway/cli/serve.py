"""`cutaway serve MODEL [MODEL ...]`: an OpenAI-compatible server.

Read next: serve/run.py, serve/app.py
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cutaway.base.apart import apart
from cutaway.base.errors import BadInput, MissingExtra
from cutaway.cli import console
from cutaway.cli.opening import Device, Dtype, open_model
from cutaway.cli.options import Activations, Attend, Cache, Weights
from cutaway.cli.speculation import OPTION, Speculate, check_speculate, proposer_of
from cutaway.weights.shelf import SHELF

if TYPE_CHECKING:
    from cutaway.infer.proposers import Proposer
    from cutaway.infer.scheduler import Limits
    from cutaway.serve.bounds import Bounds
    from cutaway.serve.roster import Embedder, Speaker

NEEDED = ("fastapi", "uvicorn", "pydantic", "prometheus_client", "nicegui")
LEAST_KEY = 8

Names = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...",
        help="Short names, folders, .gguf files or hub ids; NAME=MODEL serves it under another name.",
    ),
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes any that is free.")]
Host = Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--api-key", help="Ask for this key; again for more. Better CUTAWAY_API_KEY, which no list of processes shows."
    ),
]
Allowed = Annotated[
    list[str] | None, typer.Option("--allow-host", help="Another name this server goes by, as behind a proxy.")
]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="Each answer is, token for token, what it is alone; slower.")
]


def serve(
    context: typer.Context,
    models: Names,
    port: Port = 8000,
    host: Host = "127.0.0.1",
    api_key: Keys = None,
    allow_host: Allowed = None,
    tokens: Annotated[int, typer.Option(min=16, help="Tokens that all answers together can hold.")] = 8192,
    together: Annotated[int, typer.Option(min=1, help="Answers that are written at once.")] = 32,
    step: Annotated[int, typer.Option(min=2, help="Tokens of one pass through the model.")] = 512,
    body: Annotated[int, typer.Option(min=1024, help="Most bytes of a request.")] = 2 * 2**20,
    prompt: Annotated[int | None, typer.Option(min=1, help="Most tokens of a prompt; the model's context.")] = None,
    output: Annotated[int | None, typer.Option(min=1, help="Most tokens of an answer; the model's context.")] = None,
    running: Annotated[int, typer.Option(min=1, help="Requests at once; others wait.")] = 64,
    waiting: Annotated[int, typer.Option(min=0, help="Requests that may wait; others are sent away (429).")] = 256,
    seconds: Annotated[float, typer.Option(min=0.1, help="Most time of a request.")] = 600.0,
    grace: Annotated[float, typer.Option(min=0.0, help="Time for running requests when the server ends.")] = 10.0,
    page: Annotated[bool, typer.Option("--page/--no-page", help="A page to talk with the model, at /.")] = True,
    deterministic: Deterministic = False,
    device: Device = None,
    dtype: Dtype = None,
    attend: Attend = None,
    activations: Activations = None,
    weights: Weights = None,
    cache: Cache = None,
    speculate: Speculate = None,
) -> None:
    """Serve models to any program that speaks OpenAI's API.

    /v1/chat/completions, /v1/completions, /v1/embeddings (with an encoder), /v1/models, /health, /metrics,
    /openapi.json. Ctrl-C ends it: what runs has --grace seconds, and is then returned as far as it is.
    """
    missing = next((name for name in NEEDED if importlib.util.find_spec(name) is None), None)
    if missing is not None:
        raise MissingExtra(missing, "serve")
    keys = read_keys(api_key)
    check_speculate(speculate)
    named = [split(model) for model in models]
    from cutaway.infer.scheduler import Limits
    from cutaway.serve.bounds import Bounds
    from cutaway.serve.listening import address, listen

    bounds = Bounds(
        body=body,
        prompt=prompt,
        output=output,
        running=running,
        waiting=waiting,
        seconds=seconds,
        grace=grace,
    )
    limits = Limits(tokens=tokens, sequences=together, budget=step)
    refuse_twice(named)
    bound = listen(host, port)  # before the models, which take longer
    try:
        from cutaway.infer.language import Language
        from cutaway.nn.narrow_cache import kept_named
        from cutaway.serve.app import application
        from cutaway.serve.gate import names
        from cutaway.serve.roster import Roster

        opened, proposer = [], proposer_of(context, speculate)
        for name, model in named:

            def one(name: str = name, model: str = model) -> Speaker | Embedder:
                told = {"dtype": dtype, "device": device, "attend": attend, "activations": activations}
                language = open_model(context, model, mute=True, weights=weights, **told)
                if isinstance(language, Language) and language.speaks:
                    language.kept = kept_named(cache)
                return _served(name, model, language, limits, bounds, deterministic, proposer)

            opened.append(apart(one))  # an engine's thread is then the only one that has a pool of workers
        roster = Roster(opened)
        for given, option in ((speculate, OPTION), (cache, "--cache")):
            if given is not None and not roster.speakers:
                raise BadInput("none of these models writes text", source=option)
        known = names(host)
        hosts = None if known is None else known | {one.lower() for one in allow_host or ()}
        app = application(roster, bounds, keys=keys, hosts=hosts)
        if page:
            from cutaway.serve.pages.mount import mount

            mount(app)
        _tell(roster.models, address(bound), host, bool(keys), page)
        from cutaway.serve import run

        code = run.serve(app, bound)
    finally:
        bound.close()
    raise typer.Exit(code)


def split(text: str) -> tuple[str, str]:
    """NAME=MODEL, or a model's own name: its last part, without what a file's kind is."""
    name, equals, model = text.partition("=")
    if equals and name and model and not Path(text).exists():
        return name, model
    own = Path(text).name.removesuffix(".gguf")
    return (text if text in SHELF else own or text), text


def refuse_twice(named: list[tuple[str, str]]) -> None:
    names = [name for name, _ in named]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadInput(f"two models are called {twice}; write NAME=MODEL for one of them", source="MODEL")


def read_keys(given: list[str] | None) -> list[str]:
    """The keys of the option and of CUTAWAY_API_KEY, several of them with commas between."""
    keys = [*(given or ()), *(key.strip() for key in os.environ.get("CUTAWAY_API_KEY", "").split(",") if key.strip())]
    for key in keys:
        if len(key) < LEAST_KEY or not key.isascii() or not key.isprintable() or " " in key:
            raise BadInput(f"at least {LEAST_KEY} ASCII characters without spaces", source="--api-key")
    return keys


def _served(
    name: str,
    model: str,
    language: object,
    limits: Limits,
    bounds: Bounds,
    deterministic: bool,
    proposer: Proposer | None,
) -> Speaker | Embedder:
    from cutaway.infer.language import Language
    from cutaway.infer.service import Service
    from cutaway.serve.roster import Embedder, Speaker

    if not isinstance(language, Language):
        raise BadInput("is an encoder-decoder: it turns one text into another, which no route here does", source=model)
    if not language.speaks:
        return Embedder(name, language)
    queue = bounds.running * bounds.prompts
    told = {"limits": limits, "deterministic": deterministic, "proposer": proposer, "model": name, "queue": queue}
    try:
        return Speaker(name, Service(language, **told))
    except BadInput as error:  # of several models it is this one that does not fit
        raise BadInput(error.message, source=error.source or model, field=error.field) from error


def _tell(models: dict[str, Speaker | Embedder], url: str, host: str, locked: bool, page: bool) -> None:
    from cutaway.serve.gate import names

    console.say(f"serving {', '.join(models)} at {url}/v1")
    if page:
        console.say(f"to talk with it: {url}{' (the password is the key)' if locked else ''}")
    if names(host) is None and not locked:
        console.say("other machines can use this server, and no key is asked for: see --api-key")
    _tell_of_kernels()
    console.say("Ctrl-C ends it")


def _tell_of_kernels() -> None:
    """A server runs for long: its log says what would make the next start faster. A terminal was told already."""
    from cutaway.ops.cpu.build import kernels, remark

    said = remark(kernels())
    if said is not None and not console.messages().is_terminal:
        console.say(said)
