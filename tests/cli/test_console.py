from __future__ import annotations

import io
import json
from contextlib import redirect_stdout

import pytest
from rich.cells import cell_len

from cutaway.cli import console
from cutaway.cli.console import Column, megabytes, millions, safe, show_json, show_table

COLUMNS = (Column(title="token"), Column(title="logprob", align="right"), Column(title="what it says", wrap=True))
ROWS = [("中文", "-0.5", "一段很长的中文文字" * 12), ("abcd", "-12.25", "short"), ("[bold]", "-1", ":smile:")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    return Terminal()


def test_in_a_pipe_a_table_is_plain_whole_and_aligned_by_display_width(capsys):
    show_table(COLUMNS, ROWS, title="not shown")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and ROWS[0][2] in lines[1], "a row is a line, however long"
    pairs = zip(lines[1:], (number for _, number, _ in ROWS), strict=True)
    ends = [cell_len(line[: line.index(number) + len(number)]) for line, number in pairs]
    assert len(set(ends)) == 1, "numbers end in one column"
    assert "[bold]" in lines[3] and ":smile:" in lines[3], "text is shown as it is, not read as markup"


def test_on_a_terminal_chinese_wraps_within_the_width(terminal):
    with redirect_stdout(terminal):
        show_table(COLUMNS, ROWS, title="title")
    lines = terminal.getvalue().splitlines()
    visible = [line for line in lines if "\x1b" not in line]
    assert max(map(cell_len, visible)) <= 60
    assert "".join(lines).count("一") == 12, "nothing is cut"
    assert len(lines) > 8


@pytest.mark.parametrize("columns", ["20", "30", "40"])
def test_on_a_narrow_terminal_nothing_is_cut_off(terminal, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    with redirect_stdout(terminal):
        show_table((Column(title="name"), Column(title="bits", align="right")), [("中文词" * 9, "12345.678901")] * 2)
    shown = terminal.getvalue()
    visible = [line for line in shown.splitlines() if "\x1b" not in line]
    assert max(map(cell_len, visible)) <= int(columns)
    assert shown.count("词") == 18 and all(shown.count(digit) == 2 * "12345678901".count(digit) for digit in "2345678")


def test_no_color_is_honoured(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    with redirect_stdout(terminal):
        console.results().print("[bold red]x[/]")
    assert "x" in terminal.getvalue()
    assert "\x1b[31" not in terminal.getvalue() and "\x1b[1;31" not in terminal.getvalue()


def test_a_terminal_gets_no_control_characters_and_a_pipe_gets_all(terminal):
    with redirect_stdout(terminal):
        console.write("a\x1b]0;title\x07b\n")
    assert terminal.getvalue() == "a]0;titleb\n"
    with redirect_stdout(io.StringIO()) as pipe:
        console.write("a\x1bb")
    assert pipe.getvalue() == "a\x1bb"


def test_safe_keeps_text():
    assert safe("né 中\t😀\n\x1b\x00\x9b") == "né 中\t😀\n"


def test_remarks_go_to_stderr(capsys):
    console.say("a [remark]")
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "a [remark]\n"


def test_json_keeps_characters(capsys):
    show_json({"text": "中"})
    out = capsys.readouterr().out
    assert "中" in out and json.loads(out) == {"text": "中"}


@pytest.mark.parametrize(
    "count, text", [(5, "5 B"), (1500, "1.5 kB"), (98_362_432, "98 MB"), (1_500_000_000, "1.5 GB")]
)
def test_bytes_as_people_read_them(count, text):
    assert megabytes(count) == text


@pytest.mark.parametrize("count, text", [(5, "5"), (134_515_008, "135M"), (1_500_000_000, "1.5B"), (2_500, "2.5K")])
def test_parameters_as_people_read_them(count, text):
    assert millions(count) == text
