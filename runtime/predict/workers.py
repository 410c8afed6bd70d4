"""Several processes on one machine that label the inputs of one run, each with the model open.

The leading process deals out the inputs, publishes the results and writes the manifest. Each
worker reads, labels and encodes with its own threads. No process but the leader knows another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.backends.opening import check_device
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.backends.settings import usable_cores
from fcnkit.runtime.checks import MAX_THREADS, check_int
from fcnkit.runtime.predict.covering import CoverRequest
from fcnkit.runtime.predict.crew import Crew, ModelRequest
from fcnkit.runtime.predict.process_hand import ProcessTeam
from fcnkit.runtime.predict.run import RunControl, RunRequest
from fcnkit.runtime.predict.workers_run import WorkersRun

__all__ = ["Workers"]


class Workers(Crew):
    """Processes of this machine, to be passed to ``predict_files`` in place of a segmenter.

    Example:
        >>> with Workers("m.onnx", processes=4) as workers:  # doctest: +SKIP
        ...     for record in predict_files(workers, jobs, out, model_sha256=sha256):
        ...         print(record.output, record.status)
    """

    def __init__(
        self,
        model: str | Path,
        *,
        processes: int | None = None,
        devices: Sequence[int] | None = None,
        backend: BackendRequest | None = None,
        covering: CoverRequest | None = None,
        prepare: Callable[[], object] | None = None,
    ) -> None:
        """Start the processes, and wait until each has opened the model.

        They are spawned: a script that makes them has its code under
        ``if __name__ == "__main__":``.

        Args:
            model: As for ``load``.
            processes: How many; left out with devices.
            devices: Numbers of GPUs: one process for each.
            backend: How each opens the model. Without ``threads``, each gets its share of the
                cores.
            covering: How images are covered.
            prepare: Called in each process before it opens the model, such as to register a
                network; it can be pickled.

        Raises:
            TypeError: processes or a device is not an integer.
            ValueError: They are out of range, or both or neither is given.
            FcnkitError: As for ``load``, or a process ended while it opened the model.
        """
        backend = BackendRequest() if backend is None else backend
        count = _count(processes, devices)
        if backend.threads is None:
            backend = replace(backend, threads=max(1, usable_cores() // count))
        request = ModelRequest(
            path=str(model), backend=backend, covering=covering or CoverRequest()
        )
        if prepare is not None:
            request = replace(request, prepare=prepare)
        requests = [request] * count
        if devices is not None:
            for device in devices:
                check_device(model, replace(backend, device=device))
            requests = [replace(request, backend=replace(backend, device=d)) for d in devices]
        self._team = ProcessTeam()
        try:
            for one in requests:
                self._team.start(one)
            self._team.wait_until_open()
        except BaseException:
            self._team.kill()
            raise

    @property
    def facts(self) -> Mapping[str, Any]:
        """See ``Crew.facts``."""
        return self._team.facts

    def begin(self, request: RunRequest, control: RunControl) -> WorkersRun:
        """Prepare a run; see ``Crew.begin``."""
        return WorkersRun(self._team, request, control)

    def told(self) -> list[dict[str, Any]]:
        """See ``Crew.told``."""
        return [hand.told() for hand in self._team.all()]

    def abandon(self) -> None:
        """See ``Crew.abandon``."""
        self._team.abandon()

    def close(self) -> None:
        """End the processes; closing twice is fine."""
        self._team.close()


def _count(processes: int | None, devices: Sequence[int] | None) -> int:
    if (processes is None) == (devices is None):
        rule, remedy = "takes processes or devices", "pass one of them"
        got = "neither" if devices is None else f"{processes} and {list(devices)}"
        raise BadValueError(message("Workers", rule, got, remedy))
    if devices is None:
        return check_int("Workers: processes", processes, 1, MAX_THREADS)
    if len(set(devices)) < len(devices) or not devices:
        rule, remedy = "devices must be different numbers", "name each GPU once"
        raise BadValueError(message("Workers", rule, list(devices), remedy))
    return len(devices)
