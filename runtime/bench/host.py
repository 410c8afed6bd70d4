"""What one process does around a model: files to label files with a model that answers at once."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from fcnkit.runtime.backends.base import Backend, CheckedBackend
from fcnkit.runtime.bench.calls import Clock
from fcnkit.runtime.bench.throughput import label_all
from fcnkit.runtime.predict.codecs import describe_codecs
from fcnkit.runtime.predict.inputs import Job
from fcnkit.runtime.predict.segmenter import Segmenter

__all__ = ["Replay", "measure_host"]


class Replay(CheckedBackend):
    """Gives what a model once gave for a batch of the same size: right in form, and at once."""

    def __init__(self, model: Backend) -> None:
        """Wrap an opened backend; it is not closed with this one.

        Args:
            model: Asked once for every height and width.
        """
        super().__init__(model.spec, name=model.name, info=model.info)
        self.upsampling = model.upsampling
        self._model = model
        self._answers: dict[tuple[int, ...], NDArray[Any]] = {}

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        size = batch.shape[1:]
        if size not in self._answers:
            # A copy, because a view would keep the answers for the whole batch.
            self._answers[size] = self._model.infer(batch)[:1].copy()
        answers = self._answers[size].repeat(len(batch), axis=0)
        # As a graph returns them: labels and confidence are two outputs.
        return answers if self.spec.confidence is None else answers.swapaxes(0, 1)

    def _free(self) -> None:
        self._answers.clear()


def measure_host(
    segmenter: Segmenter,
    jobs: Sequence[Job],
    *,
    rounds: int = 3,
    batch: int | None = None,
    workers: int | None = None,
    clock: Clock = time.perf_counter,
    processor_clock: Clock = time.process_time,
) -> dict[str, Any]:
    """Label a folder again and again with a model that costs nothing.

    It is the limit that one process reaches beside any model, however fast.

    Args:
        segmenter: The model; it runs once for every size of image, before the counted rounds.
        jobs: What ``find_jobs`` found.
        rounds: Counted rounds, after one that warms up.
        batch: Tiles that share a batch, as for ``predict_files``.
        workers: Threads that decode and write, as for ``predict_files``.
        clock: Returns seconds.
        processor_clock: Returns processor seconds of all threads of this process.

    Returns:
        ``pictures``, ``images_per_second`` and ``processor_ms`` (per image, all cores together),
        each of the median round, and ``codecs`` from ``describe_codecs``.

    Raises:
        DataError: A picture could not be labeled.
    """
    tiled = {} if segmenter.tile is None else {"overlap": segmenter.overlap}
    alone = Segmenter(
        Replay(segmenter.backend),
        cover=segmenter.cover,
        tile=segmenter.tile,
        tta=segmenter.tta,
        **tiled,
    )
    seconds: list[float] = []
    busy: list[float] = []
    for _ in range(1 + rounds):
        before = clock(), processor_clock()
        label_all([alone], jobs, batch=batch, workers=workers)
        seconds.append(clock() - before[0])
        busy.append(processor_clock() - before[1])
    return {
        "pictures": len(jobs),
        "images_per_second": len(jobs) / statistics.median(seconds[1:]),
        "processor_ms": 1000 * statistics.median(busy[1:]) / len(jobs),
        "codecs": describe_codecs(),
    }
