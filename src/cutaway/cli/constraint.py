"""What an answer has to be, as options: a JSON schema, an expression, one of several texts, or a grammar.

Read next: infer/constrain.py
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cutaway.base.errors import BadInput

if TYPE_CHECKING:
    from cutaway.infer.constrain import Constraint

JsonSchema = Annotated[
    Path | None, typer.Option("--json-schema", metavar="FILE", help="The answer is JSON that this schema accepts.")
]
Regex = Annotated[str | None, typer.Option("--regex", metavar="R", help="The whole answer matches this expression.")]
Choice = Annotated[
    str | None, typer.Option("--choice", metavar="A,B,C", help="The answer is one of these texts; a comma as \\,.")
]
Grammar = Annotated[
    Path | None,
    typer.Option("--grammar", metavar="FILE", help="The answer is of this grammar, in Lark's EBNF or GBNF."),
]


def constraint_of(
    schema: Path | None, regex: str | None, choice: str | None, grammar: Path | None
) -> dict[str, Constraint]:
    """What `Language.stream` is told: nothing, or the one constraint that was asked for. Raises BadInput naming the
    option or the file."""
    given = {"--json-schema": schema, "--regex": regex, "--choice": choice, "--grammar": grammar}
    asked = {name: value for name, value in given.items() if value is not None}
    if not asked:
        return {}
    if len(asked) > 1:
        raise BadInput(f"{' and '.join(asked)} cannot both be kept: give one", source=list(asked)[1])
    from cutaway.infer.constrain import Constraint

    ((name, value),) = asked.items()
    try:
        if name == "--regex":
            return {"constraint": Constraint(kind="regex", body=value)}
        if name == "--choice":
            return {"constraint": Constraint(kind="choice", body=_texts(str(value)))}
        body = _read(Path(value))
        return {"constraint": Constraint(kind="json_schema" if name == "--json-schema" else "grammar", body=body)}
    except BadInput as error:
        if error.source is not None:
            raise
        own = value if isinstance(value, Path) else name
        field = error.field if error.field not in ("json_schema", "grammar", "regex", "choice") else None
        raise BadInput(error.message, source=own, field=field) from None


def _texts(given: str) -> list[str]:
    """The texts between commas."""
    return [one.replace("\0", ",") for one in given.replace("\\,", "\0").split(",")]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror or error}", source=path) from error
    except UnicodeDecodeError as error:
        raise BadInput(f"is not UTF-8 text (byte {error.start})", source=path) from error
