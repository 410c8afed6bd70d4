"""A run is killed at random moments: nothing is lost but the work since the last checkpoint."""

from __future__ import annotations

import json
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from fcnkit.train.checkpoint import load_checkpoint
from tests.train.tiny import RECIPE, start_tiny, train_tiny

EPOCHS = 1000
"""More than a process gets done before it is killed."""


def rows(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if key != "images_per_second"}
        for line in lines
    ]


def check_every_file(run: Path) -> int:
    """Read whatever is there as its reader would; return the epochs of the last checkpoint."""
    for path in run.glob("*.pt"):
        load_checkpoint(path)
    for path in run.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
    done = load_checkpoint(run / "last.pt").epoch if (run / "last.pt").exists() else 0
    if done:
        found = [row["epoch"] for row in rows(run)]
        assert found in (list(range(1, done + 1)), list(range(1, done + 2)))
        assert (run / "best.pt").exists()
    return done


def wait_for_lines(log: Path, lines: int) -> None:
    until = time.monotonic() + 600
    while log.read_text(encoding="utf-8").count("\n") < lines:
        assert time.monotonic() < until, log.read_text(encoding="utf-8")
        time.sleep(0.01)


def test_killed_at_random_moments(shapes_folder: Path, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    recipe = replace(RECIPE, epochs=EPOCHS, schedule="constant", class_weights="frequency")
    chance = random.Random(20)
    done = 0
    for kill in range(20):
        log.write_text("")
        process = start_tiny(shapes_folder, run, recipe, log=log)
        # Of every three, one is killed before it must have finished an epoch, two some time after:
        # counted in epochs, for a slow machine may need long for its first.
        wait_for_lines(log, 1 + kill % 3)
        time.sleep(chance.uniform(0, 1))
        assert process.is_alive()
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        before, done = done, check_every_file(run)
        reported = [int(line) for line in log.read_text().splitlines() if line.isdigit()]
        assert done >= max([before, *reported])
    assert 0 < done < EPOCHS
    # What was put together from pieces is what one piece gives.
    last = replace(recipe, epochs=done + 1)
    resumed = train_tiny(shapes_folder, run, last, resume=True)
    train_tiny(shapes_folder, tmp_path / "whole", last)
    assert [row["epoch"] for row in resumed] == list(range(1, done + 2))
    assert rows(run) == rows(tmp_path / "whole")
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {path.name for path in run.iterdir()} == names  # and no half-written file is left
