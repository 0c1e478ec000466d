"""Turns a conversation into the text a chat model was trained on, with the Jinja2 template that came with its weights.

A template gets what transformers gives it: `messages`, `tools`, `documents`, `add_generation_prompt`, the special
tokens by name (`bos_token`, `eos_token` ...), `raise_exception`, `strftime_now`, `namespace`, `tojson` without HTML
escaping, `break` and `continue`, and blocks trimmed of their line ends. It is code from outside: see text/sandbox.py.

A special token spelled out inside a message is encoded as that token, as in transformers: a user who writes
`<|im_end|>` ends their own turn. Templates only join texts, so nothing after this point can tell the two apart. Whoever
passes on text from strangers and cares removes the spellings first: `Tokenizer.special` lists them.
Read next: text/tokenizer.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from cutaway.base.errors import BadInput
from cutaway.text.fuel import Fuel
from cutaway.text.messages import checked, plain
from cutaway.text.sandbox import BUDGET, Sandbox

LONGEST = 262_144  # characters; the longest template in use that we know of has about 25,000


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    names: Mapping[str, str],
    generation_prompt: bool = True,
    tools: Sequence[Mapping[str, Any]] | None = None,
    variables: Mapping[str, Any] | None = None,
    source: str | Path | None = None,
) -> str:
    """The prompt as text. `names` are the special tokens by name; `variables` what this template takes besides.

    Raises BadInput for a message that is not one, and for a template that does not parse, raises, reaches out of its
    sandbox or asks for more work than its messages can need.
    """
    given = {
        **names,
        **plain(dict(variables or {}), "variables", source),
        "messages": checked(messages, source),
        "tools": None if tools is None else plain(list(tools), "tools", source),
        "documents": None,
        "add_generation_prompt": bool(generation_prompt),
    }
    program = _program(template, source)
    try:
        return program.render({**given, BUDGET: Fuel(given)})
    except TemplateError as error:
        raise BadInput(_line(error), source=source, field="chat template") from error
    except Exception as error:  # whatever Python raises inside somebody else's template is that template's fault
        raise BadInput(f"{type(error).__name__}: {error}", source=source, field="chat template") from error


def _program(template: str, source: str | Path | None) -> Any:
    if len(template) > LONGEST:
        raise BadInput(f"{len(template)} characters long; at most {LONGEST}", source=source, field="chat template")
    try:
        return _compiled(template)
    except TemplateError as error:
        raise BadInput(_line(error), source=source, field="chat template") from error
    except Exception as error:  # too deep for Jinja2's parser or for Python's compiler
        raise BadInput(
            f"cannot be compiled: {type(error).__name__}: {error}", source=source, field="chat template"
        ) from error


@lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    return Sandbox().compiled(template)


def _line(error: TemplateError) -> str:
    where = f"line {error.lineno}: " if isinstance(error, TemplateSyntaxError) else ""
    return where + " ".join(str(error.message or error).split())
