from __future__ import annotations

import io

import pytest
from rich.console import Console

from cutaway.cli import console, panel
from cutaway.cli.panel import LivePanel, Pace, PlainLines, duration, sparkline
from cutaway.recipes.training import Moment


def line(step: int, **more: object) -> dict:
    return {"step": step, "loss": 5.0 - step / 10, "tokens": 100, "tokens_per_second": 200.0, **more}


def test_what_the_figures_come_to():
    pace = Pace(steps=20, start=0, flops=1e6, peak=1e9)
    for step in range(1, 11):
        pace.add(line(step))
    assert pace.rate == pytest.approx(200) and pace.share == pytest.approx(0.2) and pace.left == pytest.approx(5.0)
    pace.add(line(11, val_loss=4.5))
    told = pace.words()
    for part in (
        "step 11/20",
        "loss 3.9000",
        "validation 4.5000",
        "200 tokens/s",
        "20% of the matmul peak",
        "4 s left",
    ):
        assert part in told


def test_a_pipe_gets_a_line_now_and_then(capsys, monkeypatch):
    with PlainLines(Pace(20, 0, 1e6, None)) as lines:
        for step in range(1, 10):
            lines.show(Moment(line=line(step)))
        assert capsys.readouterr().err == ""
        lines.show(Moment(line=line(10, val_loss=4.0)))
        assert capsys.readouterr().err.count("\n") == 1
        monkeypatch.setattr(panel, "EVERY", 0.0)
        lines.show(Moment(line=line(11)))
        assert "step 11/20" in capsys.readouterr().err


def test_a_terminal_gets_a_panel_with_the_latest_sample(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(console, "messages", lambda: Console(file=screen, force_terminal=True, width=60))
    with panel.watcher(20, 0, 1e6, 1e9) as shown:
        assert isinstance(shown, LivePanel)
        for step in range(1, 6):
            shown.show(Moment(line=line(step)))
        shown.show(Moment(line=line(6), sample="雪落在山上\n\x1b[2Jsecond line"))
    text = screen.getvalue()
    assert "雪落在山上" in text and "step 6/20" in text and "█" in text
    assert "\x1b[2J" not in text, "a sample cannot clear the screen"


def test_a_loss_that_is_no_number_is_left_out_of_the_curve():
    assert sparkline([3.0, float("nan"), float("inf"), 1.0], 10) == "█▁"
    assert sparkline([], 10) == "" and sparkline([2.0, 2.0], 10) == "▁▁" and len(sparkline(range(1000), 50)) == 50


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0 s"), (99.4, "99 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (-1, "0 s")]
)
def test_durations(seconds, told):
    assert duration(seconds) == told
