from __future__ import annotations

import sys

from cutaway.cli.deferred import Deferred, Entry
from cutaway.cli.main import command_line


def test_a_command_has_a_name_and_help_before_anything_is_imported():
    entry = Entry(module="cutaway.no_such_module", function="run", help="Does a thing.")
    command = Deferred("thing", entry, [])
    assert command.name == "thing" and command.get_short_help_str() == "Does a thing."


def test_using_one_imports_that_one(monkeypatch):
    monkeypatch.delitem(sys.modules, "cutaway.cli.models", raising=False)
    group = command_line()
    assert "cutaway.cli.models" not in sys.modules
    real = group.get_command(None, "models").real()
    assert "cutaway.cli.models" in sys.modules
    assert {parameter.name for parameter in real.params} == {"as_json", "shared_threads"}


def test_a_group_has_its_own_commands_each_with_the_shared_options():
    real = command_line().get_command(None, "data").real()
    assert real.name == "data" and set(real.commands) == {"prepare", "look"}
    assert all("shared_threads" in {parameter.name for parameter in one.params} for one in real.commands.values())
