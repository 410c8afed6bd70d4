from __future__ import annotations

import io
import sys
import time

import pytest
from rich.console import Console

from fcnkit.cli import progress
from fcnkit.cli.progress import progress_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_piped_lines_say_how_fast_and_how_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    with progress_of(unit="images") as advance:
        for done in range(8, 81, 8):
            advance("epoch 1", done, 80)
            clock.now += 4.0
        advance("epoch 2", 8, 80)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert lines[:2] == [
        "epoch 1: 8 of 80 images",
        "epoch 1: 16 of 80 images, 2.0 images/s, 0:00:32 left",
    ]
    assert lines[9:] == [
        "epoch 1: 80 of 80 images, 2.0 images/s, 0:00:00 left",
        "epoch 2: 8 of 80 images",
    ]


def test_things_without_a_unit_are_counted_only(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_of() as advance:
        advance("check", 1, 2)
        advance("check", 2, 2)
    assert capsys.readouterr().err.splitlines() == ["check: 1 of 2", "check: 2 of 2"]


def test_a_terminal_shows_one_bar_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()

    def console(**_options: object) -> Console:
        return Console(file=screen, force_terminal=True, width=120, color_system=None)

    monkeypatch.setattr(progress, "Console", console)
    before = sys.stdout
    with progress_of(unit="images", lasting=False) as advance:
        assert sys.stdout is before  # piped answers stay on standard output
        for stage in ("epoch 1", "epoch 2"):
            for done in range(5):
                advance(stage, done, 4)
                time.sleep(0.02)
    frame = screen.getvalue().rsplit("epoch 1", 1)[-1]
    assert "epoch 2" in frame
    assert "images/s" in frame
    last_frame = screen.getvalue().split("\x1b[")[-1]
    assert "epoch 1" not in last_frame
