"""Labeling the inputs of one run on a Ray cluster, by actors that keep the model open.

Paths go to the actors, and records come back: pixels stay on the file system, which every node
sees. The leading process publishes results and writes the manifest, as for ``Workers``. So what a
lost node had is computed again by another one, and has one result and one line all the same.

Ray Data is not used here. It tries a task again on the actor that it was bound to, and where that
actor waits for the core of another one, both wait forever. ``Predictor`` is for Ray Data.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from fcnkit.errors import BadTypeError, BadValueError, FcnkitError, message, missing_extra
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.checks import check_int
from fcnkit.runtime.predict.covering import CoverRequest
from fcnkit.runtime.predict.crew import Crew, ModelRequest
from fcnkit.runtime.predict.ray_hand import RayTeam
from fcnkit.runtime.predict.run import RunControl, RunRequest
from fcnkit.runtime.predict.workers_run import WorkersRun

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
        """Connect to a cluster, and wait until one actor has opened the model.

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
            FcnkitError: There is no such cluster, it has no room, or as for ``load``.
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
        gpus = _checked_gpus(gpus)
        self._ray = _import_ray()
        self._owns = not self._ray.is_initialized()
        if self._owns:
            _connect(self._ray, address)
        # Beside a GPU, Ray counts GPUs alone.
        self._team = RayTeam(self._ray, {"num_cpus": 0 if gpus else threads, "num_gpus": gpus})
        self._count = processes or self._most(threads, gpus)
        try:
            self._complete()
            self._team.wait_until_open()
        except BaseException:
            self.close()
            raise

    def _most(self, threads: int, gpus: float) -> int:
        """Return how many workers fit into the cluster where nothing else runs."""
        found = self._ray.cluster_resources()
        most = found.get("GPU", 0) / gpus if gpus else found.get("CPU", 0) // threads
        return max(1, int(most))

    def _complete(self) -> None:
        """Ask for the workers that are not there."""
        while len(self._team.hands) < self._count:
            self._team.start(self._model)

    @property
    def facts(self) -> Mapping[str, Any]:
        """See ``Crew.facts``."""
        return self._team.facts

    def begin(self, request: RunRequest, control: RunControl) -> WorkersRun:
        """Prepare a run; see ``Crew.begin``."""
        self._complete()
        return WorkersRun(self._team, request, control)

    def told(self) -> list[dict[str, Any]]:
        """See ``Crew.told``; without those that have found no room."""
        return [hand.told() for hand in self._team.all() if hand.place is not None]

    def abandon(self) -> None:
        """See ``Crew.abandon``."""
        self._team.abandon()

    def close(self) -> None:
        """End the actors, and leave the cluster where it was joined here."""
        self._team.kill()
        self._count = 0
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
    except ModuleNotFoundError as error:
        raise missing_extra("RayWorkers", str(error.name), "ray") from error
    if not hasattr(ray, "init"):  # a folder of that name is a package to Python
        raise missing_extra("RayWorkers", "ray", "ray")
    return ray


def _connect(ray: Any, address: str) -> None:
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        rule, remedy = "needs a Ray cluster", "start one with ray start --head, or pass local"
        raise FcnkitError(message("ray", rule, f"{address}: {error}", remedy)) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_terminate)  # Ray has put its own in its place
