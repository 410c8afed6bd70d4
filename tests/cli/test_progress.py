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


def test_the_speed_of_a_run_is_what_it_finished_by_its_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the pace of a moment: results of several pictures come together, failures at once."""
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    finished = 0
    with progress_of(unit="images", finished=lambda: finished) as advance:
        clock.now = 10.0
        for done in range(1, 5):  # all at once, every other one failed
            finished += done % 2
            advance("predict", done, 4)
            clock.now += 0.001
    assert capsys.readouterr().err.splitlines() == [
        "predict: 1 of 4 images, 0.1 images/s, 0:00:30 left",
        "predict: 2 of 4 images, 0.1 images/s, 0:00:10 left",
        "predict: 3 of 4 images, 0.2 images/s, 0:00:03 left",
        "predict: 4 of 4 images, 0.2 images/s, 0:00:00 left",
    ]
    with progress_of(unit="images", finished=lambda: 0) as advance:
        clock.now += 10.0
        advance("predict", 1, 4)
    assert capsys.readouterr().err == "predict: 1 of 4 images, 0:00:30 left\n"


def test_a_bar_shows_the_speed_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.progress import Progress

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    speed = progress._Speed("images", lambda: 3)
    bars = Progress(speed)
    bars.add_task("predict", total=4)
    (task,) = bars.tasks
    clock.now = 6.0
    assert speed.render(task).plain == "0.5 images/s"
    bars.update(task.id, completed=4)
    clock.now = 600.0  # writing the manifest, for instance
    assert speed.render(task).plain == "0.5 images/s"


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


def test_lines_of_a_stage_whose_end_is_not_known(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    with progress_of(unit="images", finished=lambda: 50) as advance:
        for done in [*range(8, 22), 199]:
            clock.now = done / 10
            advance("predict", done, None)
        advance("predict", 200, 400)
    assert capsys.readouterr().err.splitlines() == [
        "predict: 8 images, 62.5 images/s",
        "predict: 9 images, 55.6 images/s",
        "predict: 10 images, 50.0 images/s",
        "predict: 20 images, 25.0 images/s",
        "predict: 199 images, 2.5 images/s",
        "predict: 200 of 400 images, 2.5 images/s, 0:00:20 left",
    ]
