"""Labeling the inputs of one run on a Ray cluster, by Ray Data and actors that keep the model open.

Paths go to the actors, and records come back: pixels stay on the file system, which every node
sees. The leading process publishes results and writes the manifest, as for ``Workers``. So what a
lost node had is computed again by another one, and has one result and one line all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from fcnkit.errors import BadTypeError, BadValueError, FcnkitError, message, missing_extra
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.checks import check_int
from fcnkit.runtime.predict.covering import CoverRequest
from fcnkit.runtime.predict.crew import Crew, ModelRequest
from fcnkit.runtime.predict.desk import Broken
from fcnkit.runtime.predict.ray_actor import RayWork, tried
from fcnkit.runtime.predict.ray_run import Cluster, RayRun
from fcnkit.runtime.predict.run import RunControl, RunRequest

__all__ = ["RayWorkers"]

_MOST_WORKERS: Final = 10_000


class RayWorkers(Crew):
    """Actors of a Ray cluster, to be passed to ``predict_files`` in place of a segmenter.

    Every node needs fcnkit, the model, the images and the output folder under the same paths.

    Example:
        >>> with RayWorkers("/models/m.onnx", address="auto") as workers:  # doctest: +SKIP
        ...     for record in predict_files(workers, jobs, out, model_sha256=sha256):
        ...         print(record.output, record.status)
    """

    def __init__(
        self,
        model: str | Path,
        *,
        address: str = "auto",
        processes: int | None = None,
        gpus: float = 0.0,
        backend: BackendRequest | None = None,
        covering: CoverRequest | None = None,
        prepare: Callable[[], object] | None = None,
    ) -> None:
        """Connect to a cluster.

        Args:
            model: As for ``load``.
            address: ``auto`` for the cluster that runs on this machine, ``HOST:PORT``, or
                ``local`` for a new one on this machine alone. Where the program is connected
                already, that cluster is taken.
            processes: Actors at most; by default as many as the cluster has room for.
            gpus: Share of a GPU that each actor takes, such as 0.5; 0 for none.
            backend: How each opens the model, on ``threads`` cores, by default one.
            covering: How images are covered.
            prepare: Called in each process before it opens the model; it can be pickled.

        Raises:
            TypeError: processes is not an integer, or gpus is not a number.
            ValueError: One of them is out of range, or the backend names a device.
            MissingExtraError: Ray is not installed.
            FcnkitError: There is no such cluster.
        """
        if processes is not None:
            check_int("RayWorkers: processes", processes, 1, _MOST_WORKERS)
        backend = BackendRequest() if backend is None else backend
        if backend.device is not None:
            rule, remedy = "Ray chooses the GPU of each worker", "leave the device out"
            raise BadValueError(message("RayWorkers", rule, f"device {backend.device}", remedy))
        threads = backend.threads or 1
        backend = replace(backend, threads=threads)
        self._model = ModelRequest(
            path=str(Path(model).absolute()), backend=backend, covering=covering or CoverRequest()
        )
        if prepare is not None:
            self._model = replace(self._model, prepare=prepare)
        self._ray = _import_ray()
        self._owns = not self._ray.is_initialized()
        if self._owns:
            _connect(self._ray, address)
        self._cluster = Cluster(
            self._ray, threads=threads, gpus=_checked_gpus(gpus), processes=processes
        )
        self._facts: dict[str, Any] = {}

    @property
    def facts(self) -> Mapping[str, Any]:
        """See ``Crew.facts``; empty before the first run."""
        return self._facts

    def begin(self, request: RunRequest, control: RunControl) -> RayRun:
        """Open the model once in the cluster; see ``Crew.begin``."""
        if request.frames:
            rule, remedy = "Ray labels a video as one", "leave --frames or Ray out"
            raise BadValueError(message("predict", rule, "--frames", remedy))
        work = RayWork(model=self._model, request=request, into=None)
        task = self._ray.remote(**self._cluster.room)(tried)
        try:
            answer = self._ray.get(task.remote(work))
        except self._ray.exceptions.RayError as error:
            rule, remedy = "a worker must open the model", "see ray status"
            raise FcnkitError(message("ray", rule, _first_line(error), remedy)) from error
        if isinstance(answer, Broken):
            raise answer.error
        self._facts, options = answer
        return RayRun(self._cluster, work, options, control)

    def told(self) -> list[dict[str, Any]]:
        """See ``Crew.told``."""
        return self._cluster.told()

    def abandon(self) -> None:
        """Do nothing: the run leaves by its event, and the actors end with the connection."""

    def close(self) -> None:
        """Leave the cluster, where it was joined here."""
        if self._owns and self._ray.is_initialized():
            self._ray.shutdown()


def _checked_gpus(gpus: object) -> float:
    if isinstance(gpus, bool) or not isinstance(gpus, int | float):
        rule, remedy = "gpus must be a number", "pass 0.5 for two workers on a GPU"
        raise BadTypeError(message("RayWorkers", rule, type(gpus).__name__, remedy))
    if not (0 <= gpus <= 1):
        rule, remedy = "gpus must be 0..1, the share of each worker", "pass 0.5 for two on a GPU"
        raise BadValueError(message("RayWorkers", rule, gpus, remedy))
    return float(gpus)


def _import_ray() -> Any:
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise missing_extra("RayWorkers", str(error.name), "ray") from error
    return ray


def _connect(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        rule, remedy = "needs a Ray cluster", "start one with ray start --head, or pass local"
        raise FcnkitError(message("ray", rule, f"{address}: {error}", remedy)) from error
    # It says on standard error how every plan begins and ends; the run says what comes of it.
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
