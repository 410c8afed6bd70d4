"""One process of ``bench across``: a model opened with one version of a library.

    python -m fcnkit.runtime.bench.across_worker

Standard input and output carry one JSON value a line: first the settings, then tasks.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np

from fcnkit.errors import FcnkitError
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.bench.calls import Effort
from fcnkit.runtime.bench.latency import measure_latency
from fcnkit.runtime.bench.stages import compute_shape, example_picture, plan_cover
from fcnkit.runtime.predict.covering import CoverRequest
from fcnkit.runtime.predict.opening import open_segmenter
from fcnkit.runtime.predict.pictures import read_picture

__all__ = ["main"]

_EXAMPLES = 3
"""Made-up images, where none are given."""


class _Worker:
    """Answers tasks about one model."""

    def __init__(self, settings: dict[str, Any]) -> None:
        start = time.perf_counter()
        self._segmenter = open_segmenter(
            settings["model"],
            BackendRequest(**settings["backend"]),
            CoverRequest(cover=settings["cover"]),
        )
        self._opened = time.perf_counter() - start
        spec = self._segmenter.spec
        self._size: tuple[int, int] = tuple(settings["size"] or spec.shapes.opt[1:])
        self._images = [
            read_picture(path, range=spec.range, bands=spec.bands) for path in settings["images"]
        ] or [np.asarray(example_picture(*self._size, seed=seed)) for seed in range(_EXAMPLES)]
        self._package: str = settings["package"]

    def about(self) -> dict[str, Any]:
        """Say what runs."""
        return {
            "version": version(self._package),
            "size": self._size,
            "details": self._segmenter.backend.details,
            "open_ms": 1000 * self._opened,
        }

    def labels(self, out: str) -> dict[str, Any]:
        """Label the images, and write the labels to a file."""
        with Path(out).open("wb") as file:
            np.savez(file, *(self._segmenter(image_hwc) for image_hwc in self._images))
        return {"images": len(self._images)}

    def measure(self, runs: int) -> dict[str, Any]:
        """Time calls of the backend on one prepared batch."""
        plan = plan_cover(self._segmenter, (1, *self._size))
        shape = compute_shape(self._segmenter, plan, 1)
        series = measure_latency(self._segmenter.backend, shape, Effort(runs=runs))
        return {"ms": [1000 * float(value) for value in series.seconds[:, 0]]}


def _answers(tasks: IO[str], say: IO[str]) -> None:
    """Answer until there are no more tasks; an error is the last answer."""
    worker: _Worker | None = None
    for line in tasks:
        task: dict[str, Any] = json.loads(line)
        try:
            if worker is None:
                worker = _Worker(task)
                found = worker.about()
            elif task["do"] == "labels":
                found = worker.labels(task["out"])
            else:
                found = worker.measure(task["runs"])
        except Exception as error:  # of any kind: another version of a library may raise anything
            text = str(error) if isinstance(error, FcnkitError) else repr(error)
            found = {"error": " ".join(text.split())}
        say.write(json.dumps(found) + "\n")
        say.flush()
        if "error" in found:
            return


def main() -> None:
    """Answer tasks on standard output, which nothing else may write to."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as say:
        os.dup2(2, 1)
        _answers(sys.stdin, say)


if __name__ == "__main__":
    main()
