"""A command that is listed and suggested now, and imported when it is used.

`cutaway --help` names every command without importing any, so it takes no longer than Python and typer themselves.

Read next: cli/main.py
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where a command lives (`module`, `function`: a function, or a `typer.Typer` of several) and its line of help."""

    module: str
    function: str
    help: str


class Deferred(TyperCommand):
    """Stands in for a command: has its name and help; becomes the real one when arguments have to be read."""

    def __init__(self, name: str, entry: Entry, shared: list[Any]):
        super().__init__(name=name, help=entry.help, rich_markup_mode=None)
        self._entry, self._shared = entry, shared

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return self.real().make_context(info_name, args, parent=parent, **extra)

    def real(self) -> Any:
        """The command, or the group of commands, itself, with the options that all commands share."""
        function = getattr(import_module(self._entry.module), self._entry.function)
        if isinstance(function, typer.Typer):  # commands of its own: `cutaway data prepare`
            group: Any = typer.main.get_command(function)
            group.name = self.name
            for command in group.commands.values():
                command.params.extend(self._shared)
            return group
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(self.name, context_settings={"help_option_names": ["-h", "--help"]})(function)
        command = typer.main.get_command(alone)
        command.params.extend(self._shared)
        return command
