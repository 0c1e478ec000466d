"""`cutaway tokenize TEXT --with NAME`: a text in the pieces that a model reads.

Read next: text/tokenizer.py, cli/tokenizer.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from cutaway.cli.console import results, say, show_json
from cutaway.cli.opening import PromptText, open_tokenizer, read_text

if TYPE_CHECKING:
    from cutaway.text.tokenizer import Tokenizer

# Neighbours never have one colour; dark letters on light ground are readable on any terminal's own background.
GROUNDS = ("black on bright_cyan", "black on bright_yellow", "black on bright_green", "black on bright_magenta")
BETWEEN = "|"  # between pieces where there are no colours


def tokenize(
    text: PromptText,
    name: Annotated[
        str,
        typer.Option("--with", metavar="NAME", help="Whose tokenizer: a model, a folder, a tokenizer.json, a .gguf."),
    ] = "smollm2-135m",
    ids: Annotated[bool, typer.Option("--ids", help="Each piece's id behind it.")] = False,
    special: Annotated[bool, typer.Option(help="With the tokens that go around every text.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show a text in its tokens, and count them.

    Pieces are told apart by colour, in a pipe by `|`. Line ends and other controls are written out (\\n), and so are
    bytes that are only a part of a character (\\xe4).
    """
    given = read_text(text)
    tokenizer = open_tokenizer(name)
    found = tokenizer.encode(given, special=special)
    size = len(given.encode("utf-8"))
    if as_json:
        tokens = [{"id": index, "token": tokenizer.token(index)} for index in found]
        show_json({"tokens": tokens, "count": len(found), "characters": len(given), "bytes": size})
        return
    if found:
        results().print(drawn(tokenizer, found, ids), soft_wrap=True)
    ratio = f" ({size / len(found):.2f} bytes per token)" if found else ""
    results().print(
        f"{_counted(len(found), 'token')}, {_counted(len(given), 'character')}, {_counted(size, 'byte')}{ratio}",
        style="dim",
        soft_wrap=True,
    )
    if not found:
        say("there is nothing in this text that is a token")


def drawn(tokenizer: Tokenizer, found: list[int], ids: bool) -> Text:
    """The pieces side by side; colours for whoever has them, `|` for whoever has not."""
    console = results()
    coloured = console.is_terminal and not console.no_color
    line = Text()
    for place, index in enumerate(found):
        if place and not coloured:
            line.append(BETWEEN)
        line.append(written(tokenizer.token(index)), style=GROUNDS[place % len(GROUNDS)] if coloured else "")
        if ids:
            line.append(f":{index}" + (" " if coloured else ""), style="dim" if coloured else "")
    return line


def written(piece: str) -> str:
    """A piece without anything invisible but spaces: `\\n` for a line end, `\\x1b` for what would move the cursor."""
    return "".join(
        character if character == " " or character.isprintable() else repr(character)[1:-1] for character in piece
    )


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
