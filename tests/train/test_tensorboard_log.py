from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fcnkit.train.tensorboard_log
from fcnkit.train.tensorboard_log import EVENTS, open_board


def test_rows_become_scalars_and_a_resumed_run_voids_what_was_cut_off(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def row(epoch: int, value: float) -> dict[str, Any]:
        return {"epoch": epoch, "mean_iou": value, "iou": {"cat": value}}

    with open_board(tmp_path, done=0) as write:
        write(row(1, 0.25))
        write(row(2, 0.125))
    with open_board(tmp_path, done=1) as write:
        write(row(2, 0.5))
        write(row(3, 0.75))
    events = EventAccumulator(str(tmp_path / EVENTS))
    events.Reload()
    assert events.Tags()["scalars"] == ["mean_iou"]
    scalars = [(event.step, event.value) for event in events.Scalars("mean_iou")]
    assert scalars == [(1, 0.25), (2, 0.5), (3, 0.75)]


def test_without_tensorboard_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcnkit.train.tensorboard_log, "find_spec", lambda _: None)
    with open_board(tmp_path, done=0) as write:
        write({"epoch": 1, "loss": 1.0})
    assert list(tmp_path.iterdir()) == []
