"""The backend over slots: as many in flight as a stream needs, one alone for a single call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from numpy.typing import NDArray

from fcnkit.errors import FcnkitError, message
from fcnkit.runtime.backends.base import BackendInfo, CheckedBackend
from fcnkit.runtime.backends.cuda import RESTART, CudaDriver, GpuLostError, release
from fcnkit.runtime.backends.cuda_slot import Executor, Slot
from fcnkit.runtime.backends.inflight import keep_in_flight

__all__ = ["GRAPHS", "CudaBackend"]

GRAPHS: Final = 8
"""CUDA graphs that a slot keeps by default: one per recurring shape."""

_DEPTH: Final = 3
"""One batch on its way in, one in the network, one on its way out."""


class CudaBackend(CheckedBackend):
    """Runs an executor's network on a GPU, copies and all, without another framework."""

    def __init__(
        self,
        driver: CudaDriver,
        executor: Executor,
        *,
        name: str,
        info: BackendInfo,
        graphs: int = GRAPHS,
    ) -> None:
        """Take over an executor, which lives at least as long as the backend.

        Args:
            driver: The GPU.
            executor: The model in a library.
            name: The name that ``open_backend`` knows it by.
            info: What really runs.
            graphs: CUDA graphs that each slot keeps; 0 for none.
        """
        super().__init__(executor.spec, name=name, info=info)
        self._driver, self._executor, self._graphs = driver, executor, graphs
        self._slots: list[Slot] = []
        self._idle: list[Slot] = []

    def infer_timed(self, batch: NDArray[Any]) -> tuple[NDArray[Any], tuple[float, float, float]]:
        """Run a batch as ``infer`` does, but without a CUDA graph, and time its parts.

        Args:
            batch: As for ``infer``.

        Returns:
            The result, and the GPU's seconds of host to device, network and device to host.

        Raises:
            TypeError: As ``infer``.
            ValueError: As ``infer``.
        """
        batch = self._checked(batch, f"{self._name}.infer_timed")
        slot = self._take()
        try:
            with self._worded():
                return slot.run_timed(batch)
        finally:
            self._idle.append(slot)

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        return self._collect(self._submit(batch))

    def _stream(self, batches: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        return keep_in_flight(batches, submit=self._submit, collect=self._collect, depth=_DEPTH)

    def _take(self) -> Slot:
        """Return an idle slot, a new one where there is none."""
        if self._driver.lost:
            raise self._gone(self._driver.lost)
        self._driver.activate()
        if not self._idle:
            slot = Slot(self._driver, self._executor, graphs=self._graphs)
            self._slots.append(slot)
            self._idle.append(slot)
        # The last one used: its graphs and memory are the warmest, and one caller needs only one.
        return self._idle.pop()

    def _submit(self, batch: NDArray[Any]) -> Slot:
        slot = self._take()
        try:
            with self._worded():
                slot.submit(batch)
        except BaseException:
            self._idle.append(slot)
            raise
        return slot

    def _collect(self, slot: Slot) -> NDArray[Any]:
        self._check_open(f"{self._name}.stream")
        try:
            with self._worded():
                self._driver.activate()  # another thread may have begun the stream
                return slot.collect()
        finally:
            self._idle.append(slot)

    @contextmanager
    def _worded(self) -> Iterator[None]:
        """Add to a library's error that the GPU is lost, where it is."""
        try:
            yield
        except FcnkitError as error:
            if self._driver.lost and not isinstance(error, GpuLostError):
                raise self._gone(f"{self._driver.lost}, after: {error}") from error
            raise

    def _gone(self, got: str) -> GpuLostError:
        return GpuLostError(message(self._name, "the GPU must work", got, RESTART))

    def _free(self) -> None:
        """Give everything back, whatever fails; the first error has been raised before."""
        release(self._driver.activate)
        slots, self._slots, self._idle = self._slots, [], []
        for slot in slots:
            release(slot.free)
        release(self._executor.free)
