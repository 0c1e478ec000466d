from __future__ import annotations

from cutaway.cli.main import main


def test_the_kinds_are_listed(capsys):
    assert main(["compare"]) == 0
    assert "tokenizers" in capsys.readouterr().out
